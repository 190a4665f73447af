import Glibc
import LossdKernels
import LossdPluginKit
import LossdTensor

/// A loss of whole rows of classes: input (C) or (N, C), a row a unit of work, in float64 whatever the types. `mean`
/// divides by the number of rows.
protocol RowLoss: Function where State == RowsState {
  static var name: String { get }
  static var summary: String { get }
  static var inputHelp: String { get }
  /// Its own attributes, behind `reduction`.
  static var attributes: [AttributeDeclaration] { get }
  static var hasWeight: Bool { get }
  /// The target is a list of labels for each row, of input's shape, and not a class.
  static var hasLists: Bool { get }
  /// Nanoseconds of an element with its gradient.
  static var elementCost: Double { get }
  /// Bytes of scratch memory beside the blocks.
  static func scratchBytes(classes: Int) -> Int

  /// Throws what an attribute has to be.
  init(_ attributes: Attributes) throws(StatusError)

  /// Writes the gradient of a row, where it is wanted, and returns the loss of the row.
  func evaluate(_ row: RowWork) throws(StatusError) -> Double
}

struct RowsState: BitwiseCopyable {
  var rows: Int
  var classes: Int
}

extension RowLoss {
  static var hasWeight: Bool { false }
  static var hasLists: Bool { false }
  static func scratchBytes(classes: Int) -> Int { 0 }

  static var declaration: FunctionDeclaration {
    var inputs = [
      InputDeclaration(
        "input", floatTypes, isRequired: true, batching: .rows, isClasses: true, help: inputHelp),
      InputDeclaration(
        "target", indexTypes, isRequired: true, batching: .rows,
        help: hasLists
          ? "classes of each row, of input's shape, up to the first -1"
          : "a class index of each row, () or (1) for (C)"),
      InputDeclaration(
        "grad.loss", floatTypes, batching: .upstream, help: "upstream gradient, like loss"),
    ]
    var outputs = [
      OutputDeclaration(
        "loss", isDefault: true, hasRows: true, help: "scalar, or one a row for none"),
      OutputDeclaration("grad.input", hasRows: true, help: "gradient with respect to input"),
    ]
    if hasWeight {
      inputs.append(
        InputDeclaration("weight", floatTypes, isKept: true, help: "(C), of input's type"))
      outputs.append(
        OutputDeclaration("grad.weight", isUnimplemented: true, help: "not computed by lossd"))
    }
    return FunctionDeclaration(
      name: name, kind: .loss, summary: summary, inputs: inputs, outputs: outputs,
      attributes: [LossReduction.attribute] + attributes, accumulators: LossReduction.accumulators,
      values: LossReduction.values)
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> RowsState {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { throw invalid("no input") }
    guard input.rank <= 2 else {
      throw invalid("input is \(shapeText(input.shape)), expected (C) or (N, C)")
    }
    let rows = input.rank == 2 ? input.size(0) : 1
    let classes = input.rank == 0 ? 1 : input.size(input.rank - 1)
    guard classes > 0 else {
      throw invalid("input is \(shapeText(input.shape)), expected at least one class")
    }
    try checkTarget(target, input, rows)
    if hasWeight { try checkClassWeight(call.input(ClassPlaces.weight), input.dataType, classes) }
    _ = try Self(call.attributes)
    let reduction = LossReduction(call.attributes)
    // One loss of each row.
    let lists =
      input.rank == 2 ? UnsafeBufferPointer(rebasing: input.shape[..<1]) : LossReduction.emptyShape
    let shape = reduction != .none ? LossReduction.emptyShape : hasLists ? lists : target.shape
    try checkUpstream(
      call.input(ClassPlaces.upstream), "grad.loss", input.dataType, shape,
      isReduced: reduction != .none)
    if call.wants(ClassPlaces.loss) {
      if reduction == .none {
        plan.setOutput(ClassPlaces.loss, input.dataType, shape: shape)
      } else {
        plan.setReducedOutput(ClassPlaces.loss, input.dataType)
      }
    }
    if call.wants(ClassPlaces.gradient) {
      plan.setOutput(ClassPlaces.gradient, input.dataType, shape: input.shape)
    }
    plan.setRows(rows)
    if rows > 0 {
      plan.setScratch(bytes: RowWork.blockBytes(classes) + scratchBytes(classes: classes))
      plan.addPass(units: rows, unitCost: 60 + elementCost * Double(classes))
    }
    return RowsState(rows: rows, classes: classes)
  }

  private static func checkTarget(
    _ target: TensorView, _ input: TensorView, _ rows: Int
  ) throws(StatusError) {
    if hasLists {
      guard target.hasShape(input.shape) else {
        throw invalid(
          "target is \(shapeText(target.shape)), expected input's shape \(shapeText(input.shape))")
      }
      return
    }
    guard target.rank == 1 && target.size(0) == rows || target.rank == 0 && rows == 1 else {
      throw invalid(
        "target is \(shapeText(target.shape)), expected a class index of each row: (\(rows),)")
    }
  }

  static func run(_ call: Call, _ state: RowsState, _ chunk: Chunk) throws(StatusError) {
    try runRows(call, state, chunk)
  }

  /// Row by row.
  static func runRows(_ call: Call, _ state: RowsState, _ chunk: Chunk) throws(StatusError) {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { return }
    let formula = try Self(call.attributes)
    let reduction = LossReduction(call.attributes)
    let gradient = call.output(ClassPlaces.gradient)
    let perRow = reduction == .none ? call.output(ClassPlaces.loss) : nil
    let losses = ChunkTotal(chunk, Sums.losses)
    for row in chunk.range {
      let scale =
        gradient == nil
        ? 0
        : reduction.scale(
          call.input(ClassPlaces.upstream), row, weightSum: Double(state.rows))
      let loss = try formula.evaluate(
        RowWork(
          call: call, input: input, target: target,
          weight: hasWeight ? call.input(ClassPlaces.weight) : nil, gradient: gradient, row: row,
          classes: state.classes, start: row * state.classes, scale: scale,
          scratch: chunk.scratch))
      losses.add(loss)
      perRow?[row] = loss
    }
    chunk.add(Double(chunk.range.count), to: Sums.weights)
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? { LossReduction.finish(attributes, sums) }
}

/// One row, whose elements come in blocks of float64.
struct RowWork {
  /// Elements: three blocks stay in the second-level cache.
  static let blockMax = 4096
  /// Blocks between two looks at whether the call goes on.
  private static let blocksUnwatched = 64

  let call: Call
  let input: TensorView
  let target: TensorView
  let weight: TensorView?
  let gradient: TensorView?
  let row: Int
  let classes: Int
  /// Where the row begins, and elements from one to the next.
  let start: Int
  let step: Int
  /// What the gradient of the row's loss is multiplied by.
  let scale: Double
  /// A block of the input, one of the gradient, and one for whatever a loss likes, each with room for a vector more.
  let x: UnsafeMutablePointer<Double>
  let y: UnsafeMutablePointer<Double>
  let z: UnsafeMutablePointer<Double>
  /// `RowLoss.scratchBytes`.
  let more: UnsafeMutableRawPointer

  init(
    call: Call, input: TensorView, target: TensorView, weight: TensorView?,
    gradient: TensorView?, row: Int, classes: Int, start: Int, step: Int = 1, scale: Double,
    scratch: UnsafeMutableRawPointer
  ) {
    self.call = call
    self.input = input
    self.target = target
    self.weight = weight
    self.gradient = gradient
    self.row = row
    self.classes = classes
    self.start = start
    self.step = step
    self.scale = scale
    let room = RowWork.room(classes)
    x = scratch.assumingMemoryBound(to: Double.self)
    y = x + room
    z = y + room
    more = UnsafeMutableRawPointer(z + room)
  }

  /// Elements of a block: whole vectors and one more, a multiple of a cache line.
  private static func room(_ classes: Int) -> Int { (min(classes, blockMax) + 15) / 8 * 8 }

  static func blockBytes(_ classes: Int) -> Int { 3 * room(classes) * MemoryLayout<Double>.stride }

  var isOneBlock: Bool { classes <= RowWork.blockMax }

  /// Calls `body` with the first element and the number of elements of each block.
  @inline(__always)
  func eachBlock(_ body: (Int, Int) throws(StatusError) -> Void) throws(StatusError) {
    var block = 0
    for first in stride(from: 0, to: classes, by: RowWork.blockMax) {
      if block % RowWork.blocksUnwatched == RowWork.blocksUnwatched - 1 {
        try call.checkCancelled()
      }
      try body(first, min(RowWork.blockMax, classes - first))
      block += 1
    }
  }

  /// Fills `x` with a block of the input.
  func load(_ first: Int, _ count: Int) {
    if step == 1 { return Double._load(input, start + first, x, count) }
    for index in 0..<count { x[index] = element(first + index) }
  }

  /// Writes a block of the gradient from `y`.
  func store(_ first: Int, _ count: Int) {
    guard let gradient else { return }
    if step == 1 { return Double._store(y, gradient, start + first, count) }
    for index in 0..<count { gradient[start + (first + index) * step] = y[index] }
  }

  /// The row's class, checked.
  func label() throws(StatusError) -> Int {
    let label = target.integer(row)
    try checkLabel(label, row, target, classes)
    return Int(label)
  }

  /// An element of the input.
  func element(_ index: Int) -> Double { input[start + index * step] }
}

/// exp of `count` elements: by the kernels, or one by one in the reference.
func writeExponentials(
  _ x: UnsafePointer<Double>, _ y: UnsafeMutablePointer<Double>, _ count: Int
) {
  if let kernels = Kernels.chosen?.float64 {
    kernels.exp(x, y, count)
  } else {
    for index in 0..<count { y[index] = exp(x[index]) }
  }
}

extension RowState {
  /// Takes the next part of the row in.
  mutating func add(_ part: RowState) {
    let parts: InlineArray<2, RowState> = [self, part]
    withUnsafePointer(to: parts) {
      self = RowState(
        merging: UnsafeRawPointer($0).assumingMemoryBound(to: RowState.self), count: 2, step: 1,
        sharesAreScaled: false)
    }
  }
}
