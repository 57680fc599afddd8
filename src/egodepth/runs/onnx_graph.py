"""Simplifies exported ONNX graphs, so that runtimes of phones and accelerators take them whole.

PyTorch exports padding and resizing as small programs that compute sizes. At a fixed image size these are
constants.
"""

from typing import Any

import numpy as np

BATCH = "batch"
"""Name of the first dimension of images and inverse depth, where it is free."""
_MIXING = {"Reshape", "Expand", "Tile", "Slice", "Gather", "Transpose", "MatMul", "Gemm"}
"""Operators that may mix the first dimension with others."""
MAX_FOLDED = 1 << 16
"""Largest number of values of a constant that is computed in advance: sizes, not weights."""


def fold_sizes(model: Any) -> Any:
    """Replace what depends on sizes alone by constants, in a model of fixed input size."""
    import onnx

    for value in model.graph.output:  # PyTorch names its sizes, which are known below
        value.type.tensor_type.ClearField("shape")
    while True:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        shapes = {v.name: _fixed(v) for v in [*inferred.graph.value_info, *inferred.graph.input]}
        if not _fold(model, shapes):
            model.graph.output[0].CopyFrom(inferred.graph.output[0])
            return model


def _fixed(value: Any) -> list[int] | None:
    """The shape of a tensor; None if it is not fixed."""
    kind = value.type.tensor_type
    if not kind.HasField("shape") or not all(d.HasField("dim_value") for d in kind.shape.dim):
        return None
    return [d.dim_value for d in kind.shape.dim]


def _fold(model: Any, shapes: dict[str, list[int] | None]) -> bool:
    """Replace nodes that have constants, or known shapes, for inputs; returns whether there were any."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    known = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if np.prod(tensor.dims) <= MAX_FOLDED
    }
    kept, folded = [], False
    for node in model.graph.node:
        shape = (
            shapes.get(node.input[0]) if node.op_type == "Shape" and not node.attribute else None
        )
        if shape is not None:
            value: Any = np.array(shape, np.int64)
        elif len(node.output) == 1 and all(not name or name in known for name in node.input):
            single = onnx.helper.make_model(
                onnx.helper.make_graph(
                    [node], "single",
                    [onnx.helper.make_tensor_value_info(
                        name, onnx.helper.np_dtype_to_tensor_dtype(known[name].dtype), None)
                     for name in dict.fromkeys(filter(None, node.input))],
                    [onnx.helper.make_empty_tensor_value_info(node.output[0])],
                ),
                opset_imports=model.opset_import,
            )  # fmt: skip
            feeds = {name: known[name] for name in node.input if name}
            (value,) = ReferenceEvaluator(single).run(None, feeds)
        else:
            kept.append(node)
            continue
        folded, known[node.output[0]] = True, np.asarray(value)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    _keep_used(model, known)
    return folded


def _keep_used(model: Any, known: dict[str, np.ndarray]) -> None:
    """Make the known constants that are used initializers, and drop those that are not."""
    import onnx

    used = {name for node in model.graph.node for name in node.input}
    used |= {value.name for value in model.graph.output}
    old = [tensor for tensor in model.graph.initializer if tensor.name in used]
    names = {tensor.name for tensor in old}
    del model.graph.initializer[:]
    model.graph.initializer.extend(old)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name)
        for name, value in known.items()
        if name in used and name not in names
    )


def free_batch(model: Any) -> bool:
    """Free the first dimension of the input and output of a model whose sizes were folded with one image.

    Returns:
        Whether it could be freed: not where a layer reshapes to fixed sizes, as transformers do. The model is
        unchanged then.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {v.name: _fixed(v) for v in [*inferred.graph.value_info, *inferred.graph.input]}
    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    for node in freed.graph.node:
        if node.op_type == "Resize" and len(node.input) == 4:
            _resize_by_scales(freed, node, shapes.get(node.input[0]))
    for value in [*freed.graph.input, *freed.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del freed.graph.value_info[:]
    try:
        checked = onnx.shape_inference.infer_shapes(freed, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return False
    firsts = [v.type.tensor_type.shape.dim[:1] for v in checked.graph.value_info]
    fixed = any(not first or first[0].HasField("dim_value") for first in firsts)
    if fixed or any(node.op_type in _MIXING for node in freed.graph.node):
        return False
    _keep_used(freed, {})
    model.CopyFrom(freed)
    return True


def _resize_by_scales(model: Any, node: Any, shape: list[int] | None) -> None:
    """Make a Resize to a fixed size one by factors, which leaves the batch free."""
    import onnx

    sizes = next((t for t in model.graph.initializer if t.name == node.input[3]), None)
    if shape is None or sizes is None:
        return
    scales = (onnx.numpy_helper.to_array(sizes) / np.array(shape)).astype(np.float32)
    name = f"{node.output[0]}_scales"
    model.graph.initializer.append(onnx.numpy_helper.from_array(scales, name))
    kept = [*node.input[:2], name]
    del node.input[:]
    node.input.extend(kept)
