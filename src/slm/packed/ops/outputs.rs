//! Tensors that are written again: neither allocated nor cleared for every op.

use std::cell::RefCell;

use tract_onnx::tract_hir::internal::*;

/// The outputs of the ops of one sequence. A tensor comes back once nothing but this holds it,
/// which is when tract has run the last op that reads it.
#[derive(Default)]
pub struct Outputs(RefCell<Vec<Arc<Tensor>>>);

impl Outputs {
    /// An f32 tensor filled by `fill`, which must write all of it: it still has what was in it.
    pub fn fill(
        &self,
        shape: &[usize],
        fill: impl FnOnce(&mut [f32]) -> TractResult<()>,
    ) -> TractResult<TValue> {
        let mut tensor = self.take(shape)?;
        let unshared = Arc::get_mut(&mut tensor).context("an output is in use")?;
        fill(unshared.try_as_plain_ram_mut()?.as_slice_mut()?)?;
        self.0.try_borrow_mut()?.push(tensor.clone());
        Ok(tensor.into_tvalue())
    }

    fn take(&self, shape: &[usize]) -> TractResult<Arc<Tensor>> {
        let mut kept = self.0.try_borrow_mut()?;
        let is_free = |tensor: &Arc<Tensor>| Arc::strong_count(tensor) == 1;
        if let Some(found) = kept.iter().position(|t| is_free(t) && t.shape() == shape) {
            return Ok(kept.swap_remove(found));
        }
        // Those for other numbers of rows are not needed soon: a prompt's while tokens are
        // generated. But within a prompt no rows of logits are wanted.
        if !shape.contains(&0) {
            kept.retain(|t| !is_free(t) || t.shape().get(1) == shape.get(1));
        }
        Ok(Arc::new(Tensor::zero::<f32>(shape)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(outputs: &Outputs, shape: &[usize], value: f32) -> TValue {
        let write = |out: &mut [f32]| {
            out.fill(value);
            Ok(())
        };
        outputs.fill(shape, write).unwrap()
    }

    fn address(value: &TValue) -> *const u8 {
        value.as_bytes().as_ptr()
    }

    #[test]
    fn what_nobody_holds_is_written_again() {
        let outputs = Outputs::default();
        let first = filled(&outputs, &[1, 2, 3], 1.0);
        let second = filled(&outputs, &[1, 2, 3], 2.0);
        assert_eq!((first.as_bytes().len(), second.as_bytes().len()), (24, 24));
        assert_ne!(address(&first), address(&second));
        let freed = address(&first);
        drop(first);
        let other = filled(&outputs, &[1, 2, 4], 3.0);
        let third = filled(&outputs, &[1, 2, 3], 4.0);
        assert_eq!(address(&third), freed);
        for (value, want) in [(second, 2.0), (other, 3.0), (third, 4.0)] {
            let view = value.try_as_plain_ram().unwrap();
            assert!(view.as_slice::<f32>().unwrap().iter().all(|x| *x == want));
        }
    }

    #[test]
    fn a_prompts_outputs_are_freed_when_tokens_follow() {
        let outputs = Outputs::default();
        let held = filled(&outputs, &[1, 9, 4], 1.0);
        for rows in [9, 0, 9, 1, 0, 1] {
            drop((filled(&outputs, &[1, rows, 4], 0.0), filled(&outputs, &[1, rows, 5], 0.0)));
        }
        let kept = outputs.0.borrow();
        let mut shapes: Vec<&[usize]> = kept.iter().map(|t| t.shape()).collect();
        shapes.sort();
        assert_eq!(shapes, [[1, 0, 4], [1, 0, 5], [1, 1, 4], [1, 1, 5], [1, 9, 4]]);
        assert_eq!(address(&held), kept[0].as_bytes().as_ptr());
    }

    #[test]
    fn a_failed_op_keeps_nothing() {
        let outputs = Outputs::default();
        assert!(outputs.fill(&[1, 1, 4], |_| bail!("no")).is_err());
        assert!(outputs.0.borrow().is_empty());
    }
}
