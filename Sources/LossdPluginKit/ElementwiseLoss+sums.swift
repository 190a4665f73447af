import CLossdPlugin
import LossdTensor

// Gradients of operands that are repeated: sums over the repetitions. See `RepeatSums`.

extension ElementwiseLoss {
  @inlinable static func runSums<T: LossScalar>(
    _ call: Call, _ chunk: Chunk, _ state: UnsafePointer<ElementwiseState<Self>>,
    _ tensors: ElementTensors, _ type: T.Type
  ) throws(StatusError) {
    let (inputSums, targetSums) = (state.pointee.inputSums, state.pointee.targetSums)
    let ofTarget = _hasTargetSlope && targetSums > 0 && chunk.pass >= targetSums
    guard let gradient = call.output(ofTarget ? Place.targetGradient : Place.gradient) else {
      return
    }
    let sums = try tensors.sums(ofTarget: ofTarget)
    let goal = SumsGoal(
      gradient: gradient, sums: sums,
      partials: sums.pieces > 1 ? call.workspace.assumingMemoryBound(to: Double.self) : nil,
      scale: state.pointee.reduction.gradientScale(
        call.input(Place.upstream), Double(state.pointee.count)))
    if chunk.pass != (ofTarget ? targetSums : inputSums) {
      for unit in chunk.range { goal.merge(unit, ElementTiles<T>(tensors, nil, chunk).sums) }
      return
    }
    try withUnsafePointer(to: try ElementOrders(tensors, sums, ofTarget: ofTarget)) {
      (orders) throws(StatusError) in
      let tiles = ElementTiles<T>(tensors, orders, chunk)
      for unit in chunk.range {
        let (block, piece) = unit.quotientAndRemainder(dividingBy: sums.pieces)
        if sums.isOwnInner {
          try addOwn(call, state.pointee.loss, tiles, goal, block, piece, ofTarget)
        } else {
          try addRepeated(call, state.pointee.loss, tiles, goal, block, piece, ofTarget)
        }
      }
    }
  }

  /// A block of elements that lie beside one another, in the order of their repetitions.
  @inlinable static func addOwn<T: LossScalar>(
    _ call: Call, _ loss: Self, _ tiles: ElementTiles<T>, _ goal: SumsGoal, _ block: Int,
    _ piece: Int, _ ofTarget: Bool
  ) throws(StatusError) {
    let plan = goal.sums
    let first = block &* plan.blockSize
    let count = Swift.min(plan.blockSize, plan.elements &- first)
    // The whole of a small operand is taken several times at once.
    let together = count == plan.elements ? Elementwise.tile / count : 1
    let begin = piece &* plan.pieceSize
    let end = begin &+ Swift.min(plan.pieceSize, plan.repeats &- begin)
    let sums = tiles.sums
    sums.update(repeating: 0, count: count)
    var repetition = begin
    var untilCheck = SumsGoal.tilesUntilCheck
    while repetition < end {
      let taken = Swift.min(together, end &- repetition)
      let slopes = derivatives(
        loss, tiles, repetition &* plan.elements &+ first, taken &* count, ofTarget)
      var at = 0
      while at < taken &* count {
        accumulate(sums, slopes + at, count)
        at &+= count
      }
      repetition &+= taken
      try goal.check(call, &untilCheck)
    }
    goal.put(sums, first, count, piece)
  }

  /// A block of elements whose repetitions lie beside one another.
  @inlinable static func addRepeated<T: LossScalar>(
    _ call: Call, _ loss: Self, _ tiles: ElementTiles<T>, _ goal: SumsGoal, _ block: Int,
    _ piece: Int, _ ofTarget: Bool
  ) throws(StatusError) {
    let plan = goal.sums
    let end = Swift.min((block &+ 1) &* plan.blockSize, plan.elements)
    let repetitions = Swift.min(plan.pieceSize, plan.repeats &- piece &* plan.pieceSize)
    let together = Swift.max(RepeatSums.group / plan.repeats, 1)
    let sums = tiles.sums
    var element = block &* plan.blockSize
    var untilCheck = SumsGoal.tilesUntilCheck
    while element < end {
      let taken = Swift.min(together, end &- element)
      let first = element &* plan.repeats &+ piece &* plan.pieceSize
      sums.update(repeating: 0, count: taken)
      var done = 0
      while done < repetitions {
        let count = Swift.min(RepeatSums.group, repetitions &- done)
        let slopes = derivatives(loss, tiles, first &+ done, taken &* count, ofTarget)
        var index = 0
        while index < taken {
          sums[index] += sumOf(UnsafePointer(slopes) + index &* count, count)
          index &+= 1
        }
        done &+= count
        try goal.check(call, &untilCheck)
      }
      goal.put(sums, element, taken, piece)
      element &+= taken
    }
  }

  /// At most a tile of them, with weights and upstream gradients, from `at` on in the order of
  /// `tiles`.
  @inlinable static func derivatives<T: LossScalar>(
    _ loss: Self, _ tiles: ElementTiles<T>, _ at: Int, _ count: Int, _ ofTarget: Bool
  ) -> UnsafeMutablePointer<T> {
    let (x, y) = (tiles.inputs(at, count), tiles.targets(at, count))
    if _hasTargetSlope && ofTarget {
      targetSlopeLoop(loss, x, y, tiles.slopes, count)
    } else {
      slopeLoop(loss, x, y, tiles.slopes, count)
    }
    tiles.scale(tiles.slopes, tiles.weights(at, count), at, count)
    return tiles.slopes
  }
}

@inlinable @inline(never)
func accumulate<T: LossScalar>(
  _ sums: UnsafeMutablePointer<Double>, _ x: UnsafeMutablePointer<T>, _ count: Int
) {
  var i = 0
  while i < count {
    sums[i] += x[i].double
    i &+= 1
  }
}

/// Where sums over repetitions go.
@usableFromInline struct SumsGoal {
  let gradient: TensorView
  @usableFromInline let sums: RepeatSums
  /// The sums of the pieces; nil: there is one.
  let partials: UnsafeMutablePointer<Double>?
  /// Of one upstream gradient for all, and of a mean.
  let scale: Double

  /// A unit of very many repetitions takes long: it asks every now and then whether to go on.
  @usableFromInline static let tilesUntilCheck = 128

  @usableFromInline init(
    gradient: TensorView, sums: RepeatSums, partials: UnsafeMutablePointer<Double>?, scale: Double
  ) {
    (self.gradient, self.sums, self.partials, self.scale) = (gradient, sums, partials, scale)
  }

  @inlinable @inline(__always)
  func check(_ call: Call, _ untilCheck: inout Int) throws(StatusError) {
    untilCheck &-= 1
    if untilCheck > 0 { return }
    untilCheck = SumsGoal.tilesUntilCheck
    if call.isCancelled { throw StatusError(.cancelled, "cancelled") }
  }

  /// Takes sums of one piece, at most a tile of them: as the gradient where there is no other.
  @usableFromInline
  func put(_ values: UnsafeMutablePointer<Double>, _ first: Int, _ count: Int, _ piece: Int) {
    if let partials {
      (partials + piece * sums.elements + first).update(from: values, count: count)
    } else {
      store(values, first, count)
    }
  }

  /// Adds up the pieces of a tile of elements.
  @usableFromInline func merge(_ tile: Int, _ values: UnsafeMutablePointer<Double>) {
    guard let partials else { return }
    let first = tile * Elementwise.tile
    let count = min(Elementwise.tile, sums.elements - first)
    values.update(repeating: 0, count: count)
    for piece in 0..<sums.pieces {
      accumulate(values, partials + piece * sums.elements + first, count)
    }
    store(values, first, count)
  }

  /// Rounds once.
  private func store(_ values: UnsafeMutablePointer<Double>, _ first: Int, _ count: Int) {
    if scale != 1 { multiply(values, scale, count) }
    Double._store(values, gradient, first, count)
  }
}
