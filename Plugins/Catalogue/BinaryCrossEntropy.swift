import LossdKernels
import LossdPluginKit
import LossdTensor

/// The two binary losses: elementwise in an input and a target of one shape.
protocol BinaryLoss: Function where State == BinaryState {
  static var hasLogits: Bool { get }
}

struct BinaryState: BitwiseCopyable {
  var count: Int
  /// The vector kernels compute it.
  var isVector: Bool
}

/// -(y log x + (1 - y) log(1 - x)); torch.nn.functional.binary_cross_entropy.
enum BinaryCrossEntropy: BinaryLoss { static let hasLogits = false }

/// The same of sigmoid(x), stable; torch.nn.functional.binary_cross_entropy_with_logits.
enum BinaryCrossEntropyWithLogits: BinaryLoss { static let hasLogits = true }

extension BinaryLoss {
  static var declaration: FunctionDeclaration {
    var inputs = [
      InputDeclaration(
        "input", floatTypes, isRequired: true, batching: .rows,
        help: hasLogits ? "logits" : "probabilities in [0, 1]"),
      InputDeclaration(
        "target", floatTypes, isRequired: true, batching: .rows, help: "like input, in [0, 1]"),
      InputDeclaration(
        "grad.loss", floatTypes, batching: .upstream, help: "upstream gradient, like loss"),
      InputDeclaration(
        "weight", DataType.allCases, isKept: true, batching: .broadcast, help: "broadcasts to input"
      ),
    ]
    var outputs = [
      OutputDeclaration(
        "loss", isDefault: true, hasRows: true, help: "scalar, or like input for reduction=none"),
      OutputDeclaration("grad.input", hasRows: true, help: "gradient with respect to input"),
      OutputDeclaration("grad.target", hasRows: true, help: "gradient with respect to target"),
      OutputDeclaration("grad.weight", isUnimplemented: true, help: "not computed by lossd"),
    ]
    if hasLogits {
      inputs.append(
        InputDeclaration(
          "pos_weight", DataType.allCases.filter { $0 != .bool }, isKept: true,
          batching: .broadcast, help: "weight of the positive term; broadcasts"))
      outputs.append(
        OutputDeclaration("grad.pos_weight", isUnimplemented: true, help: "not computed by lossd"))
    }
    return FunctionDeclaration(
      name: hasLogits ? "binary_cross_entropy_with_logits" : "binary_cross_entropy", kind: .loss,
      summary: hasLogits
        ? "binary cross entropy of sigmoid(input), stable" : "-(y log x + (1 - y) log(1 - x))",
      inputs: inputs, outputs: outputs, attributes: [Reduction.attribute],
      accumulators: Reduction.accumulators, values: Reduction.values)
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> BinaryState {
    guard let input = call.input(0), let target = call.input(1) else { throw invalid("no input") }
    guard target.hasShape(input.shape) else {
      throw invalid("target is \(shapeText(target.shape)), expected \(shapeText(input.shape))")
    }
    guard hasLogits || target.dataType == input.dataType else {
      throw invalid("target is \(target.dataType), expected input's \(input.dataType)")
    }
    for (index, name) in [(3, "weight"), (4, "pos_weight")] where index == 3 || hasLogits {
      guard let weight = call.input(index) else { continue }
      guard weight.broadcasts(to: input.shape) else {
        throw invalid(
          "\(name) is \(shapeText(weight.shape)), which does not broadcast to input "
            + shapeText(input.shape))
      }
    }
    // torch computes the loss of logits in place of 1 - target, so that it has the target's type.
    let type = target.dataType
    let isReduced = Reduction(call.attributes) != .none
    try checkUpstream(
      call.input(2), "grad.loss", type, isReduced ? Reduction.emptyShape : input.shape,
      isReduced: isReduced)
    if call.wants(0) {
      if isReduced {
        plan.setReducedOutput(0, type)
      } else {
        plan.setOutput(0, type, shape: input.shape)
      }
    }
    if call.wants(1) { plan.setOutput(1, input.dataType, shape: input.shape) }
    if call.wants(2) { plan.setOutput(2, target.dataType, shape: input.shape) }
    plan.setRows(input.rank == 0 ? 1 : input.size(0))
    let isVector = isVector(call)
    if isVector && input.count > 0 { plan.setScratch(bytes: vectorScratch) }
    var cost = isVector ? 2.0 : 25
    for index in hasLogits ? 3...4 : 3...3 {
      if let weight = call.input(index), weight.count > 1, !weight.hasShape(input.shape) {
        cost += broadcastCost(rank: weight.rank)
      }
    }
    plan.addPass(units: Blocks.count(input.count), unitCost: cost * Double(Blocks.size))
    return BinaryState(count: input.count, isVector: isVector)
  }

  static func run(_ call: Call, _ state: BinaryState, _ chunk: Chunk) throws(StatusError) {
    if state.isVector, let kernels = Kernels.chosen {
      try runVector(kernels, call, state, chunk)
      return
    }
    let elements = Blocks.elements(chunk.range, of: state.count)
    chunk.sums[0] += try runScalar(call, state, elements)
    chunk.sums[1] += Double(elements.count)
  }

  /// Writes what is wanted of these elements and returns the sum of their losses.
  static func runScalar(
    _ call: Call, _ state: BinaryState, _ elements: Range<Int>
  ) throws(StatusError) -> Double {
    guard let input = call.input(0), let target = call.input(1) else { return 0 }
    let reduction = Reduction(call.attributes)
    let perElement = reduction == .none ? call.output(0) : nil
    let (gradient, targetGradient) = (call.output(1), call.output(2))
    let weight = call.input(3)
    let positive = hasLogits ? call.input(4) : nil
    let extremes = Extremes(input.dataType)
    var sum = CompensatedSum()
    for index in elements {
      var element = BinaryElement(x: input[index], y: target[index])
      if !hasLogits { try checkRange(element.x, element.y, index) }
      if let weight { element.weight = weight[weight.broadcastIndex(index, input.shape)] }
      if let positive { element.positive = positive[positive.broadcastIndex(index, input.shape)] }
      element.hasPositive = positive != nil
      if gradient != nil || targetGradient != nil {
        element.scale = reduction.scale(call.input(2), index, weightSum: Double(state.count))
      }
      let result =
        !hasLogits
        ? element.ofProbability
        : element.isExtreme(extremes) ? element.ofExtremeLogit(extremes) : element.ofLogit
      sum.add(result.loss)
      perElement?[index] = result.loss
      gradient?[index] = result.gradient
      targetGradient?[index] = result.targetGradient
    }
    return sum.value
  }

  @inline(__always)
  static func checkRange(_ x: Double, _ y: Double, _ index: Int) throws(StatusError) {
    guard x >= 0, x <= 1 else { throw invalid("input[\(index)] is \(x), outside [0, 1]") }
    guard y >= 0, y <= 1 else { throw invalid("target[\(index)] is \(y), outside [0, 1]") }
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? { Reduction.finish(attributes, sums) }
}
