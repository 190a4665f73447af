import CLossdPlugin
import LossdTensor

/// A loss of one row of classes: its formula and its derivative by each element of the row. `T` is
/// Float or Double.
///
/// The kit adds the inputs `input`, `target` and `grad.loss`, the outputs `loss` and `grad.input`,
/// and the attribute `reduction`. `input` is (C) or (N, C). `mean` divides by the number of rows.
/// The loss has the input's type. 16-bit types are computed in float32 and rounded once; sums are
/// float64.
///
/// Conform to `ClassLoss` or to `RowPairLoss`, not to this one.
public protocol RowwiseLoss: LossDeclaration {
  static var hasTargetRows: Bool { get }

  /// The loss of a row whose target is row `index` of `target`; slopes where there is room for
  /// them.
  func evaluate<T: LossScalar>(
    _ x: Row<T>, _ target: TensorView, _ index: Int, _ own: UnsafeMutablePointer<T>,
    _ slopes: MutableRow<T>?
  ) throws(StatusError) -> Double
}

/// With a class a row: `target` is () or (N), of integers, 0 <= target < C.
public protocol ClassLoss: RowwiseLoss {
  func loss<T: LossScalar>(_ x: Row<T>, _ target: Int) -> Double
  func slope<T: LossScalar>(_ x: Row<T>, _ target: Int, _ slopes: MutableRow<T>)
}

/// With a row of targets for each of input: `target` has the input's shape.
public protocol RowPairLoss: RowwiseLoss {
  func loss<T: LossScalar>(_ x: Row<T>, _ target: Row<T>) -> Double
  func slope<T: LossScalar>(_ x: Row<T>, _ target: Row<T>, _ slopes: MutableRow<T>)
}

extension RowwiseLoss {
  public static var inputHelp: String { "scores, (C) or (N, C)" }
}

extension ClassLoss {
  public static var hasTargetRows: Bool { false }

  @inlinable public func evaluate<T: LossScalar>(
    _ x: Row<T>, _ target: TensorView, _ index: Int, _ own: UnsafeMutablePointer<T>,
    _ slopes: MutableRow<T>?
  ) throws(StatusError) -> Double {
    let label = integerElement(target, index)
    guard label >= 0 && label < x.count else { throw wrongClass(index, label, x.count) }
    if let slopes { slope(x, label, slopes) }
    return loss(x, label)
  }
}

extension RowPairLoss {
  public static var hasTargetRows: Bool { true }

  @inlinable public func evaluate<T: LossScalar>(
    _ x: Row<T>, _ target: TensorView, _ index: Int, _ own: UnsafeMutablePointer<T>,
    _ slopes: MutableRow<T>?
  ) throws(StatusError) -> Double {
    let y = Row(view(target, index &* x.count, own, x.count), x.count)
    if let slopes { slope(x, y, slopes) }
    return loss(x, y)
  }
}

@usableFromInline func wrongClass(_ index: Int, _ label: Int, _ count: Int) -> StatusError {
  StatusError(.invalidArgument, "target[\(index)] is \(label), outside [0, \(count))")
}

/// What `plan` finds out about a call, for `run`.
@usableFromInline struct RowwiseState<F: RowwiseLoss>: BitwiseCopyable {
  @usableFromInline var loss: F
  @usableFromInline var reduction: LossReduction
  @usableFromInline var rows: Int
  @usableFromInline var classes: Int
  /// Rows without elements, whose losses are all alike and wanted as a sum alone: one stands for
  /// all.
  @usableFromInline var isOneForAll: Bool

  init(_ call: Call, _ plan: Plan) throws(StatusError) {
    guard let input = call.input(Place.input), let target = call.input(Place.target) else {
      throw StatusError(.internal, "no input")
    }
    guard input.rank == 1 || input.rank == 2 else {
      throw StatusError(
        .invalidArgument, "input is \(shapeText(input.shape)), expected (C) or (N, C)")
    }
    loss = try F(call.attributes)
    reduction = LossReduction(call.attributes, F.attributes.count)
    classes = input.size(input.rank - 1)
    rows = input.rank == 2 ? input.size(0) : 1
    let lossShape = UnsafeBufferPointer(rebasing: input.shape.prefix(input.rank - 1))
    let expected = F.hasTargetRows ? input.shape : lossShape
    guard target.shape.elementsEqual(expected) else {
      throw wrongShape("target", target, expected)
    }
    try F.plan(call, plan, reduction, input, lossShape: lossShape)
    plan.setRows(rows)
    isOneForAll =
      F.hasTargetRows && classes == 0 && rows > 0
      && !(reduction == .none && call.wants(Place.loss))
    // A tensor without elements may have a dimension of nearly 2^63.
    if input.count > 0 {
      plan.setScratch(bytes: 3 * min(classes, 1 << 48) * MemoryLayout<Double>.stride)
    }
    plan.addPass(units: isOneForAll ? 1 : rows, unitCost: 20 + F.cost * Double(classes))
  }
}

extension RowwiseLoss {
  static var declaration: FunctionDeclaration {
    declaration([
      InputDeclaration(
        "input", floatingTypes, isRequired: true, batching: .rows, isClasses: true,
        help: inputHelp),
      InputDeclaration(
        "target", hasTargetRows ? floatingTypes : [.int64, .int32, .int16, .int8, .uint8],
        isRequired: true, batching: .rows,
        help: hasTargetRows
          ? "a row of targets for each of input, of its shape"
          : "the class of each row, () or (N)"),
      InputDeclaration(
        "grad.loss", floatingTypes, batching: .upstream, help: "upstream gradient, like loss"),
    ])
  }

  @usableFromInline static func planRows(_ call: Call, _ plan: Plan) throws(StatusError) {
    call.storeState(try RowwiseState<Self>(call, plan))
  }

  @inlinable static func runRows(_ call: Call, _ chunk: Chunk) throws(StatusError) {
    guard let input = call.input(Place.input) else { return }
    if input.dataType == .float64 {
      try runRows(call, chunk, input, Double.self)
    } else {
      try runRows(call, chunk, input, Float.self)
    }
  }

  @inlinable static func runRows<T: LossScalar>(
    _ call: Call, _ chunk: Chunk, _ input: TensorView, _ type: T.Type
  ) throws(StatusError) {
    guard let target = call.input(Place.target) else { return }
    let state = call.state(as: RowwiseState<Self>.self).pointee
    let upstream = call.input(Place.upstream)
    let perRow = state.reduction == .none ? call.output(Place.loss) : nil
    let gradient = call.output(Place.gradient)
    let scale = gradient == nil ? 1 : state.reduction.gradientScale(upstream, state.rows)
    let classes = state.classes
    let scratch = chunk.scratch.assumingMemoryBound(to: T.self)
    if state.isOneForAll {
      let value = try state.loss.evaluate(
        Row(view(input, 0, scratch, 0), 0), target, 0, scratch, nil)
      chunk.sums[0] += value * Double(state.rows)
      chunk.sums[1] += Double(state.rows)
      return
    }
    let (ownX, ownY, ownSlopes) = (scratch, scratch + classes, scratch + 2 &* classes)
    for index in chunk.range {
      let x = Row(view(input, index &* classes, ownX, classes), classes)
      var slopes = ownSlopes
      if let gradient, gradient.dataType == T.dataType {
        slopes = gradient.elements(as: T.self) + index &* classes
      }
      var value = try state.loss.evaluate(
        x, target, index, ownY, gradient == nil ? nil : MutableRow(slopes, classes))
      chunk.sums[0] += value
      if let perRow { Double._store(&value, perRow, index, 1) }
      guard let gradient else { continue }
      var factor = scale
      if state.reduction == .none, let upstream { Double._load(upstream, index, &factor, 1) }
      if factor != 1 { multiply(slopes, T(factor), classes) }
      if slopes == ownSlopes { T._store(slopes, gradient, index &* classes, classes) }
    }
    chunk.sums[1] += Double(chunk.range.count)
  }
}
