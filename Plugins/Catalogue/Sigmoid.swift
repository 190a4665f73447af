import Glibc
import LossdKernels
import LossdPluginKit
import LossdTensor

/// 1 / (1 + exp(-x)); torch.sigmoid. Integers give float32.
enum Sigmoid: Function {
  struct State: BitwiseCopyable {
    /// The vector kernels compute it.
    var isVector: Bool
  }

  static var declaration: FunctionDeclaration {
    FunctionDeclaration(
      name: "sigmoid", kind: .activation, summary: "1 / (1 + exp(-input)), elementwise",
      inputs: [
        InputDeclaration(
          "input", DataType.allCases, isRequired: true, batching: .rows, help: "any shape"),
        InputDeclaration(
          "grad.output", floatTypes, batching: .rows, help: "upstream gradient, like output"),
      ],
      outputs: [
        OutputDeclaration(
          "output", isDefault: true, hasRows: true, mayOverwrite: 0,
          help: "like input; float32 for integers"),
        OutputDeclaration(
          "grad.input", hasRows: true, mayOverwrite: 0, help: "gradient with respect to input"),
      ], attributes: [])
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
    guard let input = call.input(0) else { throw invalid("no input") }
    let type = input.dataType.isFloatingPoint ? input.dataType : .float32
    try checkUpstream(call.input(1), "grad.output", type, input.shape)
    if call.wants(1) && !input.dataType.isFloatingPoint {
      throw invalid("input is \(input.dataType), which has no gradient")
    }
    plan.setRows(input.rank == 0 ? 1 : input.size(0))
    // Two results would both be made from what one of them has overwritten.
    let isSeparate = call.wants(0) && call.wants(1)
    for output in 0..<2 where call.wants(output) {
      plan.setOutput(output, type, shape: input.shape, isSeparate: isSeparate)
    }
    let isVector = isVector(input)
    plan.addPass(
      units: Blocks.count(input.count), unitCost: (isVector ? 1 : 10) * Double(Blocks.size))
    return State(isVector: isVector)
  }

  static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {
    guard let input = call.input(0) else { return }
    if state.isVector, let kernels = Kernels.chosen {
      runVector(kernels, call, chunk)
      return
    }
    let upstream = call.input(1)
    let output = call.output(0)
    let gradient = call.output(1)
    for index in Blocks.elements(chunk.range, of: input.count) {
      let x = input[index]
      // exp of the negative magnitude never overflows.
      let small = exp(-x.magnitude)
      let large = 1 / (1 + small)
      output?[index] = x >= 0 ? large : x < 0 ? small * large : x
      if let gradient {
        gradient[index] = small * large * large * (upstream.map { $0[index] } ?? 1)
      }
    }
  }
}
