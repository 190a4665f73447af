import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// a sigmoid(b) of the halves a and b of a dimension; torch.nn.functional.glu. Dauphin et al. (2017).
enum Glu: Function {
  struct State: BitwiseCopyable {
    /// Elements of a half with the dimensions behind it: as many of a, then of b.
    var half: Int
    /// How many such halves there are.
    var count: Int
    var blocks: Int
  }

  private static let dim = 0

  static var declaration: FunctionDeclaration {
    FunctionDeclaration(
      name: "glu", kind: .activation, summary: "a sigmoid(b) of the halves of a dimension",
      inputs: [
        InputDeclaration(
          "input", floatTypes, isRequired: true, batching: .rows,
          help: "any shape with an even dimension"),
        InputDeclaration(
          "grad.output", floatTypes, batching: .rows, help: "upstream gradient, like output"),
      ],
      outputs: [
        OutputDeclaration(
          "output", isDefault: true, hasRows: true, help: "like input, of half the size along dim"),
        OutputDeclaration("grad.input", hasRows: true, help: "gradient with respect to input"),
      ],
      attributes: [
        AttributeDeclaration(
          "dim", .int, default: .int(-1), role: .dimension, help: "the dimension that is halved")
      ])
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
    guard let input = call.input(ActivationPlaces.input) else { throw invalid("no input") }
    let dim = call.attributes.int(Self.dim)
    let rank = Int64(input.rank)
    guard rank > 0 else { throw invalid("input is a scalar, which has no halves") }
    guard dim >= -rank, dim < rank else {
      throw invalid("dim is \(dim), expected \(-rank) to \(rank - 1)")
    }
    let axis = Int(dim < 0 ? dim + rank : dim)
    guard input.size(axis) % 2 == 0 else {
      throw invalid(
        "input \(shapeText(input.shape)) has size \(input.size(axis)) along dim \(axis), expected an even one"
      )
    }
    var sizes = InlineArray<64, Int64>(repeating: 1)
    for dimension in 0..<input.rank { sizes[dimension] = input.shape[dimension] }
    sizes[axis] /= 2
    try withUnsafePointer(to: sizes) { pointer throws(StatusError) in
      let shape = UnsafeBufferPointer(
        start: UnsafeRawPointer(pointer).assumingMemoryBound(to: Int64.self), count: input.rank)
      try checkUpstream(call.input(ActivationPlaces.upstream), "grad.output", input.dataType, shape)
      if call.wants(ActivationPlaces.output) {
        plan.setOutput(ActivationPlaces.output, input.dataType, shape: shape)
      }
    }
    if call.wants(ActivationPlaces.gradient) {
      plan.setOutput(ActivationPlaces.gradient, input.dataType, shape: input.shape)
    }
    plan.setRows(input.size(0))
    var state = State(half: 0, count: 0, blocks: 0)
    if input.count > 0 {
      var half = input.size(axis) / 2
      for dimension in axis + 1..<input.rank { half *= input.size(dimension) }
      state = State(
        half: half, count: input.count / 2 / half, blocks: parts(half, of: Blocks.size))
    }
    plan.addPass(
      units: state.count * state.blocks, unitCost: 20 + 2 * Double(min(state.half, Blocks.size)))
    return state
  }

  static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {
    guard let input = call.input(ActivationPlaces.input) else { return }
    let kernels = (Kernels.chosen ?? Kernels.baseline).table(input.dataType)
    func place(_ tensor: TensorView, _ element: Int) -> UnsafeMutableRawPointer {
      UnsafeMutableRawPointer(tensor.elements(as: UInt8.self)) + element * input.dataType.byteSize
    }
    let (upstream, output, gradient) = (
      call.input(ActivationPlaces.upstream), call.output(ActivationPlaces.output),
      call.output(ActivationPlaces.gradient)
    )
    for unit in chunk.range {
      let (index, block) = unit.quotientAndRemainder(dividingBy: state.blocks)
      let begin = block * Blocks.size
      let whole = 2 * index * state.half + begin
      let short = index * state.half + begin
      var elements = ElementCall(
        .glu, x: place(input, whole), y: place(input, whole + state.half),
        upstream: upstream.map { UnsafeRawPointer(place($0, short)) },
        values: output.map { place($0, short) }, slopes: gradient.map { place($0, whole) },
        slopesOfY: gradient.map { place($0, whole + state.half) },
        count: min(Blocks.size, state.half - begin))
      _ = kernels.elements(&elements)
    }
  }
}
