import LossdTensor

/// What the elements of a loss are computed of.
@usableFromInline struct ElementTensors {
  @usableFromInline let input: TensorView
  @usableFromInline let target: TensorView
  @usableFromInline let weight: TensorView?
  /// nil where one upstream gradient is for all.
  @usableFromInline let upstream: TensorView?

  @usableFromInline init?(_ call: Call, _ reduction: LossReduction) {
    guard let input = call.input(Place.input), let target = call.input(Place.target) else {
      return nil
    }
    (self.input, self.target) = (input, target)
    weight = call.input(Place.weight)
    upstream = reduction == .none ? call.input(Place.upstream) : nil
  }

  /// Of input's gradient, or of target's.
  @usableFromInline func sums(ofTarget: Bool) throws(StatusError) -> RepeatSums {
    RepeatSums(try BroadcastShape(input, target), ofTarget ? target : input)
  }
}

/// In which order the elements of each tensor are read.
@usableFromInline struct ElementOrders: BitwiseCopyable {
  @usableFromInline var input: Broadcast
  @usableFromInline var target: Broadcast
  @usableFromInline var weight = Broadcast()
  @usableFromInline var upstream = Broadcast()

  /// In the row-major order of what input and target broadcast to.
  @usableFromInline init(_ tensors: ElementTensors) throws(StatusError) {
    let shape = try BroadcastShape(tensors.input, tensors.target)
    input = Broadcast(tensors.input, to: shape)
    target = Broadcast(tensors.target, to: shape)
    if let tensor = tensors.weight { weight = Broadcast(tensor, to: shape) }
    if let tensor = tensors.upstream { upstream = Broadcast(tensor, to: shape) }
  }

  /// In the order of the sums of input's gradient, or of target's.
  @usableFromInline init(
    _ tensors: ElementTensors, _ sums: RepeatSums, ofTarget: Bool
  ) throws(StatusError) {
    let shape = try BroadcastShape(tensors.input, tensors.target)
    let operand = ofTarget ? tensors.target : tensors.input
    input = Broadcast(tensors.input, to: shape, operand, sums)
    target = Broadcast(tensors.target, to: shape, operand, sums)
    if let tensor = tensors.weight { weight = Broadcast(tensor, to: shape, operand, sums) }
    if let tensor = tensors.upstream { upstream = Broadcast(tensor, to: shape, operand, sums) }
  }
}

/// Tiles of the elements of a loss: read where they are, or into scratch memory.
@usableFromInline struct ElementTiles<T: LossScalar> {
  @usableFromInline let tensors: ElementTensors
  /// nil: nothing is repeated.
  @usableFromInline let orders: UnsafePointer<ElementOrders>?
  @usableFromInline let scratch: UnsafeMutablePointer<T>

  @inlinable @inline(__always)
  init(_ tensors: ElementTensors, _ orders: UnsafePointer<ElementOrders>?, _ chunk: Chunk) {
    (self.tensors, self.orders) = (tensors, orders)
    scratch = chunk.scratch.assumingMemoryBound(to: T.self)
  }

  @inlinable @inline(__always) var losses: UnsafeMutablePointer<T> { tile(3) }
  @inlinable @inline(__always) var slopes: UnsafeMutablePointer<T> { tile(4) }
  /// Room for sums, behind the tiles: of a type that may be wider than theirs.
  @inlinable @inline(__always) var sums: UnsafeMutablePointer<Double> {
    UnsafeMutableRawPointer(scratch).assumingMemoryBound(to: Double.self) + 6 &* Elementwise.tile
  }

  @inlinable @inline(__always)
  func tile(_ index: Int) -> UnsafeMutablePointer<T> { scratch + index &* Elementwise.tile }

  @inlinable @inline(__always)
  func inputs(_ at: Int, _ count: Int) -> UnsafePointer<T> {
    if let orders, !orders.pointee.input.isWhole {
      orders.pointee.input.read(tensors.input, at, tile(0), count)
      return UnsafePointer(tile(0))
    }
    return view(tensors.input, at, tile(0), count)
  }

  @inlinable @inline(__always)
  func targets(_ at: Int, _ count: Int) -> UnsafePointer<T> {
    if let orders, !orders.pointee.target.isWhole {
      orders.pointee.target.read(tensors.target, at, tile(1), count)
      return UnsafePointer(tile(1))
    }
    return view(tensors.target, at, tile(1), count)
  }

  /// nil without a weight.
  @inlinable @inline(__always)
  func weights(_ at: Int, _ count: Int) -> UnsafePointer<T>? {
    guard let weight = tensors.weight else { return nil }
    if let orders, !orders.pointee.weight.isWhole {
      orders.pointee.weight.read(weight, at, tile(2), count)
      return UnsafePointer(tile(2))
    }
    return view(weight, at, tile(2), count)
  }

  /// Multiplies derivatives by their weights and upstream gradients, if there are any.
  @inlinable @inline(__always)
  func scale(
    _ slopes: UnsafeMutablePointer<T>, _ weights: UnsafePointer<T>?, _ at: Int, _ count: Int
  ) {
    if let weights { multiply(slopes, weights, count) }
    guard let upstream = tensors.upstream else { return }
    if let orders, !orders.pointee.upstream.isWhole {
      orders.pointee.upstream.read(upstream, at, tile(5), count)
      multiply(slopes, tile(5), count)
    } else {
      multiply(slopes, view(upstream, at, tile(5), count), count)
    }
  }
}
