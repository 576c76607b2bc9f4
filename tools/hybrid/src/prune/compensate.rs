//! What is left of a matrix when columns go: the least squares over what it reads.
//!
//! A column that goes is a sum of those that stay, as well as these can say it, and a constant. The
//! sum moves into the columns that stay, the constant into the bias.

use anyhow::{Result, ensure};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, s};

use super::moments::Moments;

/// Added to the variances, as a share of their mean: what a text of some thousand tokens cannot
/// tell apart shall not become large weights.
const RIDGE: f64 = 1e-2;

/// The columns `keep` (ascending) of `weights`, and what is to be added to the bias.
pub fn without(
    weights: &Array2<f32>,
    keep: &[usize],
    moments: &Moments,
) -> Result<(Array2<f32>, Array1<f64>)> {
    let gone: Vec<usize> =
        (0..weights.ncols()).filter(|at| keep.binary_search(at).is_err()).collect();
    let (stay, go) = (weights.select(Axis(1), keep), weights.select(Axis(1), &gone));
    let (mean_stay, mean_go) =
        (moments.mean.select(Axis(0), keep), moments.mean.select(Axis(0), &gone));
    let part = |columns: &[usize]| {
        moments.covariance.select(Axis(0), keep).select(Axis(1), columns).mapv(f64::from)
    };
    let mut among = part(keep);
    let ridge = RIDGE * among.diag().mean().unwrap_or(0.0).max(f64::MIN_POSITIVE);
    among.diag_mut().mapv_inplace(|variance| variance + ridge);
    let mut shares = part(&gone);
    solve(&mut among, &mut shares)?;
    let go = go.mapv(f64::from);
    let moved = go.dot(&shares.t());
    let bias = go.dot(&mean_go) - moved.dot(&mean_stay);
    let stay = stay + moved.mapv(|value| value as f32);
    ensure!(stay.iter().all(|value| value.is_finite()), "the activations are no numbers");
    Ok((stay, bias))
}

/// Columns and rows of a block.
const BLOCK: usize = 64;

/// `b` becomes the solution of `a · x = b`, where `a` is symmetric and positive; `a` is used up.
fn solve(a: &mut Array2<f64>, b: &mut Array2<f64>) -> Result<()> {
    let n = a.nrows();
    let blocks = || (0..n).step_by(BLOCK).map(|from| (from, n.min(from + BLOCK)));
    for (from, to) in blocks() {
        factor(a.slice_mut(s![from..to, from..to]))?;
        let (left, mut right) = a.view_mut().split_at(Axis(0), to);
        let own = left.slice(s![from..to, from..to]);
        let (mut below, mut rest) = right.view_mut().split_at(Axis(1), to);
        let mut below = below.slice_mut(s![.., from..to]);
        for mut row in below.rows_mut() {
            for i in 0..to - from {
                let done: f64 = (0..i).map(|j| row[j] * own[[i, j]]).sum();
                row[i] = (row[i] - done) / own[[i, i]];
            }
        }
        let below = below.to_owned();
        general_mat_mul(-1.0, &below, &below.t(), 1.0, &mut rest);
    }
    for (from, to) in blocks() {
        let (mut done, mut rest) = b.view_mut().split_at(Axis(0), to);
        let mut own = done.slice_mut(s![from..to, ..]);
        triangle(a.slice(s![from..to, from..to]), &mut own, false);
        general_mat_mul(-1.0, &a.slice(s![to.., from..to]), &own, 1.0, &mut rest);
    }
    for (from, to) in blocks().collect::<Vec<_>>().into_iter().rev() {
        let (mut rest, mut done) = b.view_mut().split_at(Axis(0), from);
        let mut own = done.slice_mut(s![..to - from, ..]);
        triangle(a.slice(s![from..to, from..to]), &mut own, true);
        general_mat_mul(-1.0, &a.slice(s![from..to, ..from]).t(), &own, 1.0, &mut rest);
    }
    Ok(())
}

/// A small symmetric matrix becomes its lower factor.
fn factor(mut a: ArrayViewMut2<f64>) -> Result<()> {
    for i in 0..a.nrows() {
        for j in 0..=i {
            let done: f64 = (0..j).map(|k| a[[i, k]] * a[[j, k]]).sum();
            let value = a[[i, j]] - done;
            ensure!(i != j || value > 0.0, "the activations' covariance is no covariance");
            a[[i, j]] = if i == j { value.sqrt() } else { value / a[[j, j]] };
        }
    }
    Ok(())
}

/// Solves by a small lower factor, or by its transpose.
fn triangle(factor: ArrayView2<f64>, b: &mut ArrayViewMut2<f64>, transposed: bool) {
    let n = factor.nrows();
    for step in 0..n {
        let (i, others) = match transposed {
            false => (step, 0..step),
            true => (n - 1 - step, n - step..n),
        };
        for j in others {
            let by = if transposed { factor[[j, i]] } else { factor[[i, j]] };
            let other = b.row(j).to_owned();
            b.row_mut(i).scaled_add(-by, &other);
        }
        b.row_mut(i).mapv_inplace(|value| value / factor[[i, i]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(rows: usize, columns: usize) -> Array2<f64> {
        let mut state = 1u32;
        Array2::from_shape_simple_fn((rows, columns), || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 23) - 1.0
        })
    }

    #[test]
    fn systems_of_all_sizes_are_solved() {
        for n in [1, 5, 64, 65, 200] {
            let half = spread(n + 3, n);
            let a = half.t().dot(&half) + Array2::<f64>::eye(n);
            let x = spread(n, 7);
            let mut b = a.dot(&x);
            solve(&mut a.clone(), &mut b).unwrap();
            let worst = (&b - &x).iter().fold(0f64, |worst, e| worst.max(e.abs()));
            assert!(worst < 1e-8, "{n}: {worst}");
        }
        assert!(solve(&mut -Array2::<f64>::eye(3), &mut spread(3, 1)).is_err());
    }

    fn moments(rows: &Array2<f64>) -> Moments {
        let mean = rows.mean_axis(Axis(0)).unwrap();
        let centred = rows - &mean;
        let covariance = centred.t().dot(&centred) / rows.nrows() as f64;
        Moments { mean, covariance: covariance.mapv(|value| value as f32) }
    }

    /// What stays must say what it did: exactly where the columns that go are constant or sums of
    /// others, and with less error than without compensation elsewhere.
    #[test]
    fn what_goes_is_made_of_what_stays() {
        let mut rows = spread(400, 8);
        for mut row in rows.rows_mut() {
            row[1] = 0.75;
            row[4] = 2.0 * row[0] - row[5] + 0.5;
            row[6] = row[2] + 0.5 * row[6];
        }
        let weights = spread(3, 8).mapv(|value| value as f32);
        let moments = moments(&rows);
        let error = |keep: &[usize], (weights_left, bias): &(Array2<f32>, Array1<f64>)| {
            let whole = rows.dot(&weights.mapv(f64::from).t());
            let left = rows.select(Axis(1), keep).dot(&weights_left.mapv(f64::from).t()) + bias;
            (whole - left).mapv(|e| e * e).mean().unwrap()
        };
        let exact = [0, 2, 3, 5, 6, 7];
        let found = error(&exact, &without(&weights, &exact, &moments).unwrap());
        assert!(found < 1e-3, "{found}");
        let lossy = [0, 1, 2, 3, 4, 5];
        let plain = (weights.select(Axis(1), &lossy), Array1::zeros(3));
        let by_mean = weights.select(Axis(1), &[6, 7]).mapv(f64::from);
        let by_mean = by_mean.dot(&moments.mean.select(Axis(0), &[6, 7]));
        let [full, mean, none] =
            [without(&weights, &lossy, &moments).unwrap(), (plain.0.clone(), by_mean), plain]
                .map(|left| error(&lossy, &left));
        assert!(full < 0.8 * mean && mean <= none, "{full} {mean} {none}");
    }

    #[test]
    fn what_has_no_weight_leaves_nothing() {
        let rows = spread(100, 5);
        let mut weights = spread(2, 5).mapv(|value| value as f32);
        weights.column_mut(1).fill(0.0);
        let keep = [0, 2, 3, 4];
        let (left, bias) = without(&weights, &keep, &moments(&rows)).unwrap();
        assert_eq!(left, weights.select(Axis(1), &keep));
        assert_eq!(bias, Array1::<f64>::zeros(2));
    }
}
