//! Linear maps in a graph: a matrix, with a bias added and rows taken by nodes behind it.

use std::ops::Range;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use tract_onnx::pb::NodeProto;

use super::index::{Index, MAX_STEPS, first, float, input, integer};
use super::weights::Weight;

pub const MATMULS: &[&str] = &["MatMul", "MatMulNBits", "Gemm"];

/// Some rows of a matrix, their biases, and the value that they are multiplied with.
#[derive(Clone)]
pub struct Linear<'a> {
    pub weight: Rc<Weight>,
    pub rows: Range<usize>,
    pub bias: Option<Vec<f32>>,
    pub input: &'a str,
}

impl<'a> Linear<'a> {
    /// The linear map that makes a value.
    pub fn find(index: &Index<'a>, value: &'a str) -> Result<Linear<'a>> {
        let (mut value, mut bias, mut cut) = (value, None::<Vec<f32>>, None::<Cut>);
        for _ in 0..MAX_STEPS {
            value = index.before(value);
            let (node, output) = index.producer(value)?;
            match node.op_type.as_str() {
                "Add" => {
                    let (values, other) = bias_of(index, node)?;
                    ensure!(bias.is_none(), "it has two biases");
                    // One in front of a split is cut with the rows.
                    bias = Some(values);
                    value = other;
                }
                // Keys and values behind those that came before.
                "Concat" => {
                    let made = node.input.iter().find(|input| index.producer(input).is_ok());
                    value = made.context("Concat joins inputs only")?;
                }
                "Split" => {
                    ensure!(cut.is_none(), "it is split twice");
                    cut = Some(Cut::of(index, node, output)?);
                    value = first(node)?;
                }
                op if MATMULS.contains(&op) => {
                    let whole = Linear::of(index, node)?;
                    return whole.finish(bias, cut);
                }
                other => bail!("node {} ({other}) is not supported here", node.name),
            }
        }
        bail!("no matrix makes {value}")
    }

    fn of(index: &Index<'a>, node: &'a NodeProto) -> Result<Linear<'a>> {
        let named = || format!("node {}", node.name);
        let mut bias = None;
        let weight = match node.op_type.as_str() {
            "MatMulNBits" => {
                bias = input(node, 5);
                Weight::matmul_n_bits(index, node)
            }
            op => {
                let name = input(node, 1).context("it has one input")?;
                let (tensor, turned) = index.constant(name).with_context(|| {
                    format!("{name} of node {} is no constant of floats", node.name)
                })?;
                let mut output_axis = if turned { 0 } else { 1 };
                if op == "Gemm" {
                    bias = input(node, 2);
                    let plain = [("alpha", 1.0), ("beta", 1.0)];
                    let plain = plain.iter().all(|(n, one)| float(node, n).unwrap_or(1.0) == *one);
                    ensure!(plain && integer(node, "transA").unwrap_or(0) == 0, "{}", named());
                    if integer(node, "transB").unwrap_or(0) != 0 {
                        output_axis = 1 - output_axis;
                    }
                }
                Weight::floats(index.values, tensor, output_axis)
            }
        };
        let weight = Rc::new(weight.with_context(named)?);
        let bias = bias.map(|name| index.vector(name)).transpose()?;
        Ok(Linear { rows: 0..weight.rows, weight, bias, input: first(node)? })
    }

    /// With a bias that is added to the result, and a part of the rows only.
    fn finish(mut self, bias: Option<Vec<f32>>, cut: Option<Cut>) -> Result<Linear<'a>> {
        let rows = self.rows.len();
        if let Some(cut) = cut {
            let range = match cut {
                Cut::Rows(range) => range,
                Cut::Share(at, of) => at * rows / of..(at + 1) * rows / of,
            };
            ensure!(range.end <= rows, "it is split into more than {rows} rows");
            self = self.part(range);
        }
        if let Some(bias) = bias {
            let range = self.rows.clone();
            let own = match bias.len() {
                n if n == range.len() => Some(bias.as_slice()),
                n if n == rows => bias.get(range.clone()),
                _ => None,
            };
            let own =
                own.with_context(|| format!("{} biases are not {} rows", bias.len(), range.len()))?;
            self.bias = Some(own.to_vec());
        }
        Ok(self)
    }

    pub fn part(&self, rows: Range<usize>) -> Linear<'a> {
        let bias = self.bias.as_ref().and_then(|bias| bias.get(rows.clone())).map(<[f32]>::to_vec);
        Linear { weight: self.weight.clone(), rows, bias, input: self.input }
    }

    /// The linear map that reads a value, and what it makes.
    pub fn behind(index: &Index<'a>, value: &'a str) -> Result<(Linear<'a>, &'a str)> {
        let readers = index.readers(value);
        let found = readers.iter().find(|(node, value)| {
            MATMULS.contains(&&*node.op_type) && node.input.first().is_some_and(|i| i == value)
        });
        let (node, _) = found.with_context(|| format!("no matrix reads {value}"))?;
        let linear = Linear::of(index, node)?;
        let result = node.output.first().context("no output")?;
        for (node, value) in index.readers(result) {
            if node.op_type == "Add"
                && let Ok((values, other)) = bias_of(index, node)
                && other == value
            {
                let sum = node.output.first().context("no output")?;
                return Ok((linear.finish(Some(values), None)?, sum));
            }
        }
        Ok((linear, result))
    }
}

/// What a Split takes of the rows: a range, or an equal share.
enum Cut {
    Rows(Range<usize>),
    Share(usize, usize),
}

impl Cut {
    fn of(index: &Index, node: &NodeProto, output: usize) -> Result<Cut> {
        let attribute = node.attribute.iter().find(|attribute| attribute.name == "split");
        let sizes = match (input(node, 1), attribute) {
            (Some(name), _) => {
                let (tensor, _) = index.constant(name).context("its sizes are computed")?;
                index.values.integers(tensor)?
            }
            (None, Some(attribute)) => attribute.ints.clone(),
            (None, None) => return Ok(Cut::Share(output, node.output.len())),
        };
        let size = |n: &i64| usize::try_from(*n).ok().filter(|n| *n < 1 << 32);
        let sizes: Option<Vec<_>> = sizes.iter().map(size).collect();
        let sizes = sizes.context("it is split into negative or huge sizes")?;
        let start: usize = sizes.iter().take(output).sum();
        let own = sizes.get(output).context("it has more outputs than sizes")?;
        Ok(Cut::Rows(start..start + own))
    }
}

/// The constant and the other part of an Add.
pub fn bias_of<'a>(index: &Index<'a>, node: &'a NodeProto) -> Result<(Vec<f32>, &'a str)> {
    let [a, b] = node.input.as_slice() else { bail!("node {} has not two inputs", node.name) };
    for (constant, other) in [(a, b), (b, a)] {
        if index.constant(constant).is_some() {
            return Ok((index.vector(constant)?, other));
        }
    }
    bail!("node {} adds no constant", node.name)
}
