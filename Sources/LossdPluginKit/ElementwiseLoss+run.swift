import CLossdPlugin
import LossdTensor

extension ElementwiseLoss {
  @inlinable static func runElements(_ call: Call, _ chunk: Chunk) throws(StatusError) {
    guard let input = call.input(Place.input) else { return }
    if input.dataType == .float64 {
      try runElements(call, chunk, Double.self)
    } else {
      try runElements(call, chunk, Float.self)
    }
  }

  @inlinable static func runElements<T: LossScalar>(
    _ call: Call, _ chunk: Chunk, _ type: T.Type
  ) throws(StatusError) {
    let state = call.state(as: ElementwiseState<Self>.self)
    guard let tensors = ElementTensors(call, state.pointee.reduction) else { return }
    if state.pointee.isWhole {
      runTiles(call, chunk, state, ElementTiles<T>(tensors, nil, chunk))
    } else if chunk.pass == 0 {
      try withUnsafePointer(to: try ElementOrders(tensors)) { orders throws(StatusError) in
        runTiles(call, chunk, state, ElementTiles<T>(tensors, orders, chunk))
      }
    } else {
      try runSums(call, chunk, state, tensors, T.self)
    }
  }

  /// The losses, and the derivatives by what is not repeated.
  @inlinable static func runTiles<T: LossScalar>(
    _ call: Call, _ chunk: Chunk, _ state: UnsafePointer<ElementwiseState<Self>>,
    _ tiles: ElementTiles<T>
  ) {
    let reduction = state.pointee.reduction
    let perElement = reduction == .none ? call.output(Place.loss) : nil
    let gradient = state.pointee.inputSums == 0 ? call.output(Place.gradient) : nil
    let targetGradient =
      _hasTargetSlope && state.pointee.targetSums == 0 ? call.output(Place.targetGradient) : nil
    let scale =
      gradient == nil && targetGradient == nil
      ? 1 : T(reduction.gradientScale(call.input(Place.upstream), Double(state.pointee.count)))
    let losses = tiles.losses
    let start = chunk.range.lowerBound &* Elementwise.unit
    let end = Swift.min(chunk.range.upperBound &* Elementwise.unit, state.pointee.count)
    var at = start
    while at < end {
      let count = Swift.min(Elementwise.tile, end &- at)
      let (x, y) = (tiles.inputs(at, count), tiles.targets(at, count))
      let weights = tiles.weights(at, count)
      var slopes = tiles.slopes
      if let gradient {
        if gradient.dataType == T.dataType { slopes = gradient.elements(as: T.self) + at }
        gradientLoop(state.pointee.loss, x, y, losses, slopes, count)
      } else {
        lossLoop(state.pointee.loss, x, y, losses, count)
      }
      if let weights { multiply(losses, weights, count) }
      chunk.add(losses, count, to: 0)
      if let perElement { T._store(losses, perElement, at, count) }
      if let gradient {
        tiles.scale(slopes, weights, at, count)
        if scale != 1 { multiply(slopes, scale, count) }
        if slopes == tiles.slopes { T._store(slopes, gradient, at, count) }
      }
      if let targetGradient {
        slopes = tiles.slopes
        if targetGradient.dataType == T.dataType {
          slopes = targetGradient.elements(as: T.self) + at
        }
        targetSlopeLoop(state.pointee.loss, x, y, slopes, count)
        tiles.scale(slopes, weights, at, count)
        if scale != 1 { multiply(slopes, scale, count) }
        if slopes == tiles.slopes { T._store(slopes, targetGradient, at, count) }
      }
      at &+= Elementwise.tile
    }
    chunk.add(Double(end &- start), to: 1)
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

  @inlinable @inline(never)
  static func slopeLoop<T: LossScalar>(
    _ loss: Self, _ x: UnsafePointer<T>, _ y: UnsafePointer<T>, _ slopes: UnsafeMutablePointer<T>,
    _ count: Int
  ) {
    var i = 0
    while i < count {
      slopes[i] = loss.slope(x[i], y[i])
      i &+= 1
    }
  }

  @inlinable @inline(never)
  static func targetSlopeLoop<T: LossScalar>(
    _ loss: Self, _ x: UnsafePointer<T>, _ y: UnsafePointer<T>, _ slopes: UnsafeMutablePointer<T>,
    _ count: Int
  ) {
    var i = 0
    while i < count {
      slopes[i] = loss._slopeOfTarget(x[i], y[i])
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
