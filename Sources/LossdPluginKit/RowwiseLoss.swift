import CLossdPlugin
import LossdTensor

/// A loss of one row of classes: its formula and its derivative by each element of the row. `T` is
/// Float or Double.
///
/// The kit adds the inputs `input`, `target` and `grad.loss`, the outputs `loss` and `grad.input`,
/// and the attribute `reduction`. The loss has the input's type. 16-bit types are computed in
/// float32 and rounded once; sums are float64.
///
/// Conform to `ClassLoss` or to `RowPairLoss`, not to this one.
public protocol RowwiseLoss: LossDeclaration {
  static var hasTargetRows: Bool { get }

  /// The loss of a row whose target is the class `label`, or the row `y`; slopes where there is
  /// room for them.
  func evaluate<T: LossScalar>(_ x: Row<T>, _ label: Int, _ y: Row<T>, _ slopes: MutableRow<T>?)
    -> Double
}

/// With a class a row, as torch.nn.functional.cross_entropy has it: `input` is (C), (N, C) or
/// (N, C, d1, ..., dk), `target` has integers and the input's shape without C, 0 <= target < C. The
/// kit adds the input `weight`, (C) and of the input's type, and the attribute `ignore_index`, -100
/// by default: a row's loss and slopes are multiplied by the weight of the row's class, and by 0
/// where the target is `ignore_index`; `mean` divides by the sum of these factors. `loss` and
/// `slope` are not called for ignored rows.
public protocol ClassLoss: RowwiseLoss {
  func loss<T: LossScalar>(_ x: Row<T>, _ target: Int) -> Double
  func slope<T: LossScalar>(_ x: Row<T>, _ target: Int, _ slopes: MutableRow<T>)
}

/// With a row of targets for each of input: `input` is (C) or (N, C), `target` has its shape.
/// `mean` divides by the number of rows.
public protocol RowPairLoss: RowwiseLoss {
  func loss<T: LossScalar>(_ x: Row<T>, _ target: Row<T>) -> Double
  func slope<T: LossScalar>(_ x: Row<T>, _ target: Row<T>, _ slopes: MutableRow<T>)
}

extension ClassLoss {
  public static var hasTargetRows: Bool { false }
  public static var inputHelp: String { "scores, (C), (N, C) or (N, C, d1, ..., dk)" }

  @inlinable public func evaluate<T: LossScalar>(
    _ x: Row<T>, _ label: Int, _ y: Row<T>, _ slopes: MutableRow<T>?
  ) -> Double {
    if let slopes { slope(x, label, slopes) }
    return loss(x, label)
  }
}

extension RowPairLoss {
  public static var hasTargetRows: Bool { true }
  public static var inputHelp: String { "scores, (C) or (N, C)" }

  @inlinable public func evaluate<T: LossScalar>(
    _ x: Row<T>, _ label: Int, _ y: Row<T>, _ slopes: MutableRow<T>?
  ) -> Double {
    if let slopes { slope(x, y, slopes) }
    return loss(x, y)
  }
}

/// Where the rows of an input lie: row r begins at `start(r)`, its elements are `inner` apart.
@usableFromInline struct RowPlaces: BitwiseCopyable {
  @usableFromInline var rows = 1
  @usableFromInline var classes: Int
  @usableFromInline var inner = 1

  /// nil for a shape that has no dimension of classes.
  init?(_ input: TensorView) {
    guard input.rank > 0 else { return nil }
    classes = input.size(input.rank == 1 ? 0 : 1)
    if input.rank > 1 { rows = input.size(0) }
    for dimension in stride(from: 2, to: input.rank, by: 1) {
      inner *= input.size(dimension)
      rows *= input.size(dimension)
    }
  }

  @inlinable @inline(__always) func start(_ row: Int) -> Int {
    row / inner &* classes &* inner &+ row % inner
  }

  /// Rows that are read at once where their elements lie apart.
  @usableFromInline var block: Int { inner == 1 || classes > 1 << 12 ? 1 : 16 }

  /// Elements of type Double that a chunk needs: the rows of a block, one of targets, the slopes, a
  /// line across the rows. A tensor without elements may have a dimension of nearly 2^63.
  var scratch: Int { (2 * block + 1) * min(classes, 1 << 48) + block }
}

/// What `plan` finds out about a call, for `run`.
@usableFromInline struct RowwiseState<F: RowwiseLoss>: BitwiseCopyable {
  @usableFromInline var loss: F
  @usableFromInline var reduction: LossReduction
  @usableFromInline var places: RowPlaces
  /// Rows without elements, whose losses are all alike and wanted as a sum alone: one stands for
  /// all.
  @usableFromInline var isOneForAll: Bool
  /// A pass over the targets comes first, for the sum of the weights.
  @usableFromInline var sumsWeightsFirst = false
  @usableFromInline var ignored = 0

  init(_ call: Call, _ plan: Plan) throws(StatusError) {
    guard let input = call.input(Place.input), let target = call.input(Place.target) else {
      throw StatusError(.internal, "no input")
    }
    guard let places = RowPlaces(input), !F.hasTargetRows || input.rank <= 2 else {
      let shapes = F.hasTargetRows ? "(C) or (N, C)" : "(C), (N, C) or (N, C, d1, ..., dk)"
      throw StatusError(
        .invalidArgument, "input is \(shapeText(input.shape)), expected \(shapes)")
    }
    loss = try F(call.attributes)
    reduction = LossReduction(call.attributes, F.attributes.count)
    self.places = places
    isOneForAll =
      F.hasTargetRows && places.classes == 0 && places.rows > 0
      && !(reduction == .none && call.wants(Place.loss))
    var lossShape = UnsafeBufferPointer(rebasing: input.shape.prefix(input.rank - 1))
    if F.hasTargetRows {
      guard target.shape.elementsEqual(input.shape) else {
        throw wrongShape("target", target, input.shape)
      }
    } else {
      try RowwiseState.check(call, target, of: input, places)
      if input.rank > 1 { lossShape = target.shape }
      ignored = Int(call.attributes.int(F.attributes.count + 1))
      sumsWeightsFirst = reduction == .mean && call.wants(Place.gradient)
    }
    try F.plan(call, plan, reduction, input, lossShape: lossShape)
    plan.setRows(input.rank == 1 ? 1 : input.size(0))
    if input.count > 0 {
      plan.setScratch(bytes: places.scratch * MemoryLayout<Double>.stride)
    }
    if sumsWeightsFirst { plan.addPass(units: places.rows, unitCost: 2) }
    plan.addPass(
      units: isOneForAll ? 1 : places.rows, unitCost: 20 + F.cost * Double(places.classes))
  }

  /// That class indices and weights are of the right shapes and types.
  private static func check(
    _ call: Call, _ target: TensorView, of input: TensorView, _ places: RowPlaces
  ) throws(StatusError) {
    // torch takes (1) for the () of an input (C).
    let isOne = input.rank == 1 && target.rank == 1 && target.count == 1
    var isRight = target.rank == input.rank - 1
    for dimension in 0..<input.rank where dimension != 1 && isRight && input.rank > 1 {
      isRight = target.shape[dimension == 0 ? 0 : dimension - 1] == input.shape[dimension]
    }
    guard isRight || isOne else {
      throw StatusError(
        .invalidArgument,
        "target is \(shapeText(target.shape)), expected input \(shapeText(input.shape)) without "
          + "its classes")
    }
    guard let weight = call.input(Place.weight) else { return }
    guard weight.rank == 1, weight.count == places.classes, weight.dataType == input.dataType
    else {
      throw StatusError(
        .invalidArgument,
        "weight is \(weight.description), expected \(input.dataType) (\(places.classes),)")
    }
  }

  /// The class of a row; nil where it does not count.
  @usableFromInline func label(_ target: TensorView, _ row: Int) throws(StatusError) -> Int? {
    let label = integerElement(target, row)
    if label == ignored { return nil }
    guard label >= 0 && label < places.classes else {
      throw wrongClass(target, row, label, places.classes)
    }
    return label
  }
}

/// target[1, 2] is 7, outside [0, 3).
package func wrongClass(_ target: TensorView, _ row: Int, _ label: Int, _ classes: Int)
  -> StatusError
{
  var (rest, places) = (row, [String]())
  for size in target.shape.reversed() {
    places.append(String(rest % Int(size)))
    rest /= Int(size)
  }
  let place = places.isEmpty ? "0" : places.reversed().joined(separator: ", ")
  return StatusError(
    .invalidArgument, "target[\(place)] is \(label), outside [0, \(classes))")
}

extension RowwiseLoss {
  static var declaration: FunctionDeclaration {
    let upstream = InputDeclaration(
      "grad.loss", floatingTypes, batching: .upstream, help: "upstream gradient, like loss")
    let input = InputDeclaration(
      "input", floatingTypes, isRequired: true, batching: .rows, isClasses: true, help: inputHelp)
    if hasTargetRows {
      let target = InputDeclaration(
        "target", floatingTypes, isRequired: true, batching: .rows,
        help: "a row of targets for each of input, of its shape")
      return declaration([input, target, upstream])
    }
    let target = InputDeclaration(
      "target", [.int64, .int32, .int16, .int8, .uint8], isRequired: true, batching: .rows,
      help: "the class of each row: input's shape without its classes")
    let weight = InputDeclaration(
      "weight", floatingTypes, isKept: true, help: "weight of each class, (C), of input's type")
    var result = declaration([input, target, upstream, weight])
    result.attributes.append(
      AttributeDeclaration(
        "ignore_index", .int, default: .int(-100), help: "targets of this value do not count"))
    return result
  }

  @usableFromInline static func planRows(_ call: Call, _ plan: Plan) throws(StatusError) {
    call.storeState(try RowwiseState<Self>(call, plan))
  }

  @inlinable static func runRows(_ call: Call, _ chunk: Chunk) throws(StatusError) {
    guard let input = call.input(Place.input), let target = call.input(Place.target) else {
      return
    }
    let state = call.state(as: RowwiseState<Self>.self)
    if state.pointee.sumsWeightsFirst && chunk.pass == 0 {
      let weight = call.input(Place.weight)
      for row in chunk.range {
        if let label = try state.pointee.label(target, row) {
          chunk.add(weight.map { element($0, label) } ?? 1, to: 1)
        }
      }
    } else if input.dataType == .float64 {
      try runRows(call, chunk, input, target, state.pointee, Double.self)
    } else {
      try runRows(call, chunk, input, target, state.pointee, Float.self)
    }
  }

  @inlinable static func runRows<T: LossScalar>(
    _ call: Call, _ chunk: Chunk, _ input: TensorView, _ target: TensorView,
    _ state: RowwiseState<Self>, _ type: T.Type
  ) throws(StatusError) {
    let places = state.places
    let (classes, inner, block) = (places.classes, places.inner, places.block)
    let (upstream, weight) = (call.input(Place.upstream), call.input(Place.weight))
    let perRow = state.reduction == .none ? call.output(Place.loss) : nil
    let gradient = call.output(Place.gradient)
    let divisor = state.sumsWeightsFirst ? call.totals[1] : Double(places.rows)
    let scale = gradient == nil ? 1 : state.reduction.gradientScale(upstream, divisor)
    let scratch = chunk.scratch.assumingMemoryBound(to: T.self)
    if state.isOneForAll {
      let nothing = Row(view(input, 0, scratch, 0), 0)
      chunk.add(state.loss.evaluate(nothing, 0, nothing, nil), times: places.rows, to: 0)
      chunk.add(Double(places.rows), to: 1)
      return
    }
    let (ownX, ownY) = (scratch, scratch + block &* classes)
    let ownSlopes = ownY + classes
    let line = ownSlopes + block &* classes
    let isInPlace = gradient.map { $0.dataType == T.dataType } ?? false && inner == 1
    var at = chunk.range.lowerBound
    while at < chunk.range.upperBound {
      let count = Swift.min(block, inner &- at % inner, chunk.range.upperBound &- at)
      let start = places.start(at)
      if inner > 1 { gather(input, start, places, count, ownX, line) }
      for row in 0..<count {
        let index = at &+ row
        let label = hasTargetRows ? 0 : try state.label(target, index)
        var slopes = ownSlopes + row &* classes
        if isInPlace, let gradient { slopes = gradient.elements(as: T.self) + start }
        guard let label else {
          if gradient != nil { slopes.update(repeating: 0, count: classes) }
          if inner == 1 && !isInPlace, let gradient { T._store(slopes, gradient, start, classes) }
          var nothing = 0.0
          if let perRow { Double._store(&nothing, perRow, index, 1) }
          continue
        }
        let x = Row(
          inner > 1 ? UnsafePointer(ownX + row &* classes) : view(input, start, ownX, classes),
          classes)
        let y = hasTargetRows ? Row(view(target, start, ownY, classes), classes) : x
        let own = weight.map { hasTargetRows ? 1 : element($0, label) } ?? 1
        var value =
          own
          * state.loss.evaluate(x, label, y, gradient == nil ? nil : MutableRow(slopes, classes))
        chunk.add(value, to: 0)
        if !state.sumsWeightsFirst { chunk.add(own, to: 1) }
        if let perRow { Double._store(&value, perRow, index, 1) }
        guard let gradient else { continue }
        var factor = scale
        if state.reduction == .none, let upstream { Double._load(upstream, index, &factor, 1) }
        factor *= own
        if factor != 1 { multiply(slopes, T(factor), classes) }
        if inner == 1 && !isInPlace { T._store(slopes, gradient, start, classes) }
      }
      if inner > 1, let gradient { scatter(ownSlopes, gradient, start, places, count, line) }
      at &+= count
    }
  }
}

/// An element of a tensor of any type.
@usableFromInline func element(_ tensor: TensorView, _ index: Int) -> Double {
  var value = 0.0
  Double._load(tensor, index, &value, 1)
  return value
}

/// Rows whose elements lie apart, one behind another. `line`: room for `count` elements.
@inlinable func gather<T: LossScalar>(
  _ tensor: TensorView, _ start: Int, _ places: RowPlaces, _ count: Int,
  _ rows: UnsafeMutablePointer<T>, _ line: UnsafeMutablePointer<T>
) {
  var index = 0
  while index < places.classes {
    T._load(tensor, start &+ index &* places.inner, line, count)
    for row in 0..<count { rows[row &* places.classes &+ index] = line[row] }
    index &+= 1
  }
}

/// The way back.
@inlinable func scatter<T: LossScalar>(
  _ rows: UnsafePointer<T>, _ tensor: TensorView, _ start: Int, _ places: RowPlaces, _ count: Int,
  _ line: UnsafeMutablePointer<T>
) {
  var index = 0
  while index < places.classes {
    for row in 0..<count { line[row] = rows[row &* places.classes &+ index] }
    T._store(line, tensor, start &+ index &* places.inner, count)
    index &+= 1
  }
}
