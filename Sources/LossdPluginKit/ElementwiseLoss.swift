import CLossdPlugin
import LossdTensor

/// A loss of one input element and one target element: its formula and its derivative by the input.
///
/// `loss` and `slope` are called in loops that the compiler turns into vectors, with `T` Float or
/// Double: write straight-line code with the kit's `exp`, `log` and so on, and `a < b ? c : d` in
/// place of branches, and mark both `@inline(__always)`.
///
/// The kit adds the inputs `input`, `target`, `weight` and `grad.loss`, the outputs `loss` and
/// `grad.input`, and the attribute `reduction`. `input` is of any shape; `target` (any type) has
/// the same, or broadcasts to it where `broadcastsTarget`; `weight` broadcasts to it. `mean`
/// divides by the number of elements. The loss has the input's type. 16-bit types are computed in
/// float32 and rounded once; sums are float64.
public protocol ElementwiseLoss: LossDeclaration {
  static var targetHelp: String { get }
  static var broadcastsTarget: Bool { get }

  func loss<T: LossScalar>(_ x: T, _ y: T) -> T
  func slope<T: LossScalar>(_ x: T, _ y: T) -> T
}

extension ElementwiseLoss {
  public static var inputHelp: String { "predictions, any shape" }
  public static var targetHelp: String { "targets, like input" }
  public static var broadcastsTarget: Bool { false }
}

/// What `plan` finds out about a call, for `run`.
@usableFromInline struct ElementwiseState<F: ElementwiseLoss>: BitwiseCopyable {
  @usableFromInline var loss: F
  @usableFromInline var reduction: LossReduction
  @usableFromInline var target: Broadcast
  @usableFromInline var weight: Broadcast

  init(_ call: Call, _ plan: Plan) throws(StatusError) {
    guard let input = call.input(Place.input), let target = call.input(Place.target) else {
      throw StatusError(.internal, "no input")
    }
    loss = try F(call.attributes)
    reduction = LossReduction(call.attributes, F.attributes.count)
    guard let targets = Broadcast(target, to: input.shape),
      F.broadcastsTarget || target.shape.elementsEqual(input.shape)
    else { throw wrongShape("target", target, input.shape) }
    self.target = targets
    weight = Broadcast()
    if let tensor = call.input(Place.weight) {
      guard let weights = Broadcast(tensor, to: input.shape) else {
        throw wrongShape("weight", tensor, input.shape)
      }
      weight = weights
    }
    try F.plan(call, plan, reduction, input, lossShape: input.shape)
    plan.setRows(input.rank == 0 ? 1 : input.size(0))
    if input.count > 0 {
      plan.setScratch(
        bytes: Elementwise.tileCount * Elementwise.tile * MemoryLayout<Double>.stride)
    }
    plan.addPass(
      units: input.count / Elementwise.unit + (input.count % Elementwise.unit == 0 ? 0 : 1),
      unitCost: F.cost * Double(Elementwise.unit))
  }
}

@usableFromInline enum Elementwise {
  /// Elements of a unit of work, and of what is computed at once.
  @usableFromInline static let (unit, tile) = (1024, 256)
  @usableFromInline static let tileCount = 5
}

extension ElementwiseLoss {
  static var declaration: FunctionDeclaration {
    declaration([
      InputDeclaration(
        "input", floatingTypes, isRequired: true, batching: .rows, help: inputHelp),
      InputDeclaration(
        "target", DataType.allCases, isRequired: true,
        batching: broadcastsTarget ? .broadcast : .rows, help: targetHelp),
      InputDeclaration(
        "grad.loss", floatingTypes, batching: .upstream, help: "upstream gradient, like loss"),
      InputDeclaration(
        "weight", floatingTypes, isKept: true, batching: .broadcast,
        help: "weight of each element, broadcasts to input"),
    ])
  }

  @usableFromInline static func planElements(_ call: Call, _ plan: Plan) throws(StatusError) {
    call.storeState(try ElementwiseState<Self>(call, plan))
  }

  @inlinable static func runElements(_ call: Call, _ chunk: Chunk) {
    guard let input = call.input(Place.input) else { return }
    if input.dataType == .float64 {
      runElements(call, chunk, input, Double.self)
    } else {
      runElements(call, chunk, input, Float.self)
    }
  }

  @inlinable static func runElements<T: LossScalar>(
    _ call: Call, _ chunk: Chunk, _ input: TensorView, _ type: T.Type
  ) {
    guard let target = call.input(Place.target) else { return }
    let state = call.state(as: ElementwiseState<Self>.self)
    let reduction = state.pointee.reduction
    let (upstream, weight) = (call.input(Place.upstream), call.input(Place.weight))
    let perElement = reduction == .none ? call.output(Place.loss) : nil
    let gradient = call.output(Place.gradient)
    let scale = gradient == nil ? 1 : T(reduction.gradientScale(upstream, Double(input.count)))
    let tile = Elementwise.tile
    let scratch = chunk.scratch.assumingMemoryBound(to: T.self)
    let (ownX, ownY, factors) = (scratch, scratch + tile, scratch + 2 &* tile)
    let (losses, ownSlopes) = (scratch + 3 &* tile, scratch + 4 &* tile)
    let start = chunk.range.lowerBound &* Elementwise.unit
    let end = Swift.min(chunk.range.upperBound &* Elementwise.unit, input.count)
    var sum = 0.0
    var at = start
    while at < end {
      let count = Swift.min(tile, end &- at)
      let x = view(input, at, ownX, count)
      var y = UnsafePointer(ownY)
      if state.pointee.target.isWhole {
        y = view(target, at, ownY, count)
      } else {
        state.pointee.target.read(target, at, ownY, count)
      }
      var slopes = ownSlopes
      if let gradient {
        if gradient.dataType == T.dataType { slopes = gradient.elements(as: T.self) + at }
        gradientLoop(state.pointee.loss, x, y, losses, slopes, count)
      } else {
        lossLoop(state.pointee.loss, x, y, losses, count)
      }
      if let weight {
        state.pointee.weight.read(weight, at, factors, count)
        multiply(losses, factors, count)
        if gradient != nil { multiply(slopes, factors, count) }
      }
      sum += sumOf(losses, count)
      if let perElement { T._store(losses, perElement, at, count) }
      if let gradient {
        if reduction == .none, let upstream {
          T._load(upstream, at, factors, count)
          multiply(slopes, factors, count)
        }
        if scale != 1 { multiply(slopes, scale, count) }
        if slopes == ownSlopes { T._store(slopes, gradient, at, count) }
      }
      at &+= tile
    }
    chunk.sums[0] += sum
    chunk.sums[1] += Double(end &- start)
  }

  // The hot loops, each a function by itself: in a larger one the optimiser loses them.

  @inlinable @inline(never)
  static func lossLoop<T: LossScalar>(
    _ loss: Self, _ x: UnsafePointer<T>, _ y: UnsafePointer<T>, _ losses: UnsafeMutablePointer<T>,
    _ count: Int
  ) {
    var i = 0
    while i < count {
      losses[i] = loss.loss(x[i], y[i])
      i &+= 1
    }
  }

  @inlinable @inline(never)
  static func gradientLoop<T: LossScalar>(
    _ loss: Self, _ x: UnsafePointer<T>, _ y: UnsafePointer<T>, _ losses: UnsafeMutablePointer<T>,
    _ slopes: UnsafeMutablePointer<T>, _ count: Int
  ) {
    var i = 0
    while i < count {
      let (a, b) = (x[i], y[i])
      losses[i] = loss.loss(a, b)
      slopes[i] = loss.slope(a, b)
      i &+= 1
    }
  }
}

/// Elements as `T`: where they are, or widened into `own`.
@inlinable @inline(__always)
func view<T: LossScalar>(
  _ tensor: TensorView, _ index: Int, _ own: UnsafeMutablePointer<T>, _ count: Int
) -> UnsafePointer<T> {
  if tensor.dataType == T.dataType { return UnsafePointer(tensor.elements(as: T.self) + index) }
  T._load(tensor, index, own, count)
  return UnsafePointer(own)
}
