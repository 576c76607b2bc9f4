//! Writes fitted heads as `reward.onnx`.

use hybrid_common::heads::onnx::{Graph, inputs};
use ndarray::{Array2, ArrayView2, Axis, Slice};

use super::net::{Net, is_large};

/// The line and the net of [`Net`]. Matrices are written in half precision.
pub fn write_net(net: &Net, hidden_size: usize) -> Vec<u8> {
    let mut graph = Graph::default();
    let [v, c] = net.last();
    let mut line = graph.constant("line.bias", [1, 1], [net.bias]);
    let mut h = parameter(&mut graph, "first.bias", &net.parameters[1]);
    for (input, columns) in inputs(hidden_size, net.width()) {
        let size = columns.len();
        let name = |part: &str| format!("{input}.{part}");
        let x = graph.input(input, size);
        let [centre, scale] = [("centre", &net.scaling.centre), ("scale", &net.scaling.scale)]
            .map(|(part, of)| graph.constant(&name(part), [1, size], of[columns.clone()].to_vec()));
        let centred = graph.node("Sub", &[&x, &centre], &name("centred"));
        let scaled = graph.node("Mul", &[&centred, &scale], &name("scaled"));
        let rows = Slice::from(columns.start as isize..columns.end as isize);
        let [of_line, of_net] = [("line", &net.line), ("weight", &net.parameters[0])]
            .map(|(part, of)| view(&mut graph, &name(part), of.slice_axis(Axis(0), rows)));
        let product = graph.node("MatMul", &[&scaled, &of_line], &name("line.product"));
        line = graph.node("Add", &[&product, &line], &name("line.sum"));
        let product = graph.node("MatMul", &[&scaled, &of_net], &name("product"));
        h = graph.node("Add", &[&product, &h], &name("sum"));
    }
    h = graph.node("Relu", &[&h], "first");
    for block in 0..net.shape.blocks {
        let name = |part: &str| format!("block{block}.{part}");
        let p = &net.parameters[2 + 4 * block..];
        let inner = layer(&mut graph, &name("inner"), &h, &p[0], &p[1]);
        let inner = graph.node("Relu", &[&inner], &name("relu"));
        let outer = layer(&mut graph, &name("outer"), &inner, &p[2], &p[3]);
        h = graph.node("Add", &[&h, &outer], &name("sum"));
    }
    let last = layer(&mut graph, "last", &h, v, c);
    let sum = graph.node("Add", &[&last, &line], "sum");
    graph.finish(&sum)
}

fn parameter(graph: &mut Graph, name: &str, values: &Array2<f32>) -> String {
    view(graph, name, values.view())
}

/// Matrices in half precision, to which they were rounded; vectors as they are.
fn view(graph: &mut Graph, name: &str, values: ArrayView2<f32>) -> String {
    let dims = [values.nrows(), values.ncols()];
    let all = values.iter().copied();
    if is_large(&values) { graph.half(name, dims, all) } else { graph.constant(name, dims, all) }
}

/// `x·weight + bias`
fn layer(
    graph: &mut Graph,
    name: &str,
    x: &str,
    weight: &Array2<f32>,
    bias: &Array2<f32>,
) -> String {
    let weight = parameter(graph, &format!("{name}.weight"), weight);
    let bias = parameter(graph, &format!("{name}.bias"), bias);
    let product = graph.node("MatMul", &[x, &weight], &format!("{name}.product"));
    graph.node("Add", &[&product, &bias], name)
}

#[cfg(test)]
mod tests {
    use hybrid::reward::Head as Loaded;

    use super::*;
    use crate::train::head::Head;
    use crate::train::linear::Fitted;
    use crate::train::net::Shape;
    use crate::train::standardised::Standardised;
    use hybrid_common::heads::platt::sigmoid;
    use hybrid_common::heads::testing;

    const D: usize = 48;

    /// Every kind, without and with the state after.
    fn heads() -> Vec<(Head, bool)> {
        let data = testing::dataset(50, D, 7);
        let scaling = Standardised::new(&data).scaling;
        let mut heads = Vec::new();
        for after in [false, true] {
            let width = data.width(after);
            let mut dense = testing::truth(D);
            dense.weights.truncate(width);
            dense.centre = (0..width).map(|i| (i as f32 * 0.9).cos()).collect();
            let mut sparse = dense.clone();
            (0..width).filter(|i| i % 5 != 0).for_each(|i| sparse.weights[i] = 0.0);
            heads.extend([dense, sparse].map(|head| (Head::Linear(head), after)));
            for blocks in [0, 2] {
                let weights = testing::truth(D).weights[..width].to_vec();
                let line = Fitted { bias: 0.3, weights };
                let mut net = Net::new(Shape { units: 8, blocks }, &scaling, &line, 1);
                net.parameters.iter_mut().for_each(|p| p.mapv_inplace(|v| v + 0.02));
                net.round();
                heads.push((Head::Net(net), after));
            }
        }
        heads
    }

    #[test]
    fn written_heads_equal_the_fitted_ones() {
        let data = testing::dataset(50, D, 7);
        for (head, after) in heads() {
            let mut loaded = Loaded::load(&head.write(D), D).unwrap();
            assert_eq!(loaded.reads_after(), after);
            for row in 0..data.rows() {
                let features = data.row(row);
                let (stats, hidden) = features.split_first_chunk().unwrap();
                let got = loaded.run(&hidden[..D], Some(&hidden[D..]), stats).unwrap();
                let want = sigmoid(head.log_odds(features));
                assert!((f64::from(got) - want).abs() < 2e-6, "{got} {want}");
            }
        }
    }
}
