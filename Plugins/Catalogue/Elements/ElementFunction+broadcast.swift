import LossdPluginKit
import LossdTensor

extension ElementFunction {
  /// The plan where the operands broadcast to more than the input, or a gradient is a sum over repetitions.
  static func planBroadcast(
    _ call: Call, _ plan: inout Plan, _ tensors: ElementTensors, _ type: DataType
  ) throws(StatusError) -> ElementState {
    let space = try space(tensors)
    var state = ElementState(
      count: space.count, formula: formula(call), constants: constants(call.attributes))
    state.isBroadcast = true
    try space.withShape { (shape) throws(StatusError) in
      try planResults(call, &plan, tensors, type, shape)
      planPasses(&plan, tensors, shape, &state)
      if space.count == 0 { return }
      plan.setScratch(bytes: ElementTile.scratchBytes(to: .sums))
      let cost = elementCost(tensors, shape)
      var partials = 0
      func addSums(_ operand: Int, _ place: Int?, _ tensor: TensorView?) -> Int {
        guard call.wants(place), let tensor, !space.isWhole(tensor) else { return -1 }
        let sums = BroadcastSums(space, operand, tensor)
        // One after the other, so that all may use the same memory.
        partials = max(partials, sums.units * sums.blockSize)
        let pass = plan.addPass(units: sums.units, unitCost: sums.unitCost(cost))
        plan.addPass(
          units: sums.blocks, unitCost: 10 * Double(sums.pieces) * Double(sums.blockSize))
        return pass
      }
      state.sumsOfInput = addSums(0, places.slope, tensors.input)
      state.sumsOfTarget = addSums(1, places.slopeOfTarget, tensors.target)
      state.sumsOfParameter = addSums(2, places.slopeOfParameter, tensors.parameter)
      plan.setWorkspace(doubles: partials)
    }
    return state
  }

  /// What the operands broadcast to; the weight has no part in it.
  private static func space(_ tensors: ElementTensors) throws(StatusError) -> BroadcastSpace {
    var space = BroadcastSpace()
    func add(_ tensor: TensorView?, _ place: Int?) throws(StatusError) {
      guard let tensor, let place, !space.add(tensor) else { return }
      throw invalid(
        "\(name(place)) is \(shapeText(tensor.shape)), which does not broadcast with "
          + "\(name(places.input)) \(shapeText(tensors.input.shape))"
          + (place == places.parameter ? " and \(name(1))" : ""))
    }
    try add(tensors.input, places.input)
    try add(tensors.target, places.target)
    try add(tensors.parameter, places.parameter)
    let fits =
      space.setStrides(0, tensors.input)
      && space.setStrides(1, tensors.target ?? tensors.input)
      && space.setStrides(2, tensors.parameter ?? tensors.input)
    guard fits else { throw invalid("the inputs broadcast to 2^63 elements or more") }
    return space
  }

  static func runBroadcast(
    _ call: Call, _ tiles: Tiles, _ tensors: ElementTensors, _ state: ElementState, _ chunk: Chunk,
    _ scale: Double
  ) throws(StatusError) {
    let space = try space(tensors)
    try space.withShape { (shape) throws(StatusError) in
      let block = ElementBlock(
        tiles, tensors, state, shape: shape, scale: scale, scratch: chunk.scratch)
      if chunk.pass == state.elements {
        let range = Blocks.elements(chunk.range, of: state.count)
        if range.isEmpty { return }
        try runBlocks(block, range, chunk)
        if places.isLoss { addWeights(tensors, state, range, chunk) }
        return
      }
      func run(_ pass: Int, _ operand: Int, _ tensor: TensorView?, _ gradient: TensorView?)
        throws(StatusError)
      {
        guard pass >= 0, chunk.pass == pass || chunk.pass == pass + 1, let tensor, let gradient
        else { return }
        let sums = BroadcastSums(space, operand, tensor)
        let partials = call.workspace.assumingMemoryBound(to: Double.self)
        if chunk.pass == pass {
          let room = ElementTile.sums.place(chunk.scratch).assumingMemoryBound(to: Double.self)
          for unit in chunk.range {
            try call.checkCancelled()
            sums.add(unit, block, room, partials)
          }
        } else {
          for index in chunk.range { sums.merge(index, partials, gradient) }
        }
      }
      try run(state.sumsOfInput, 0, tensors.input, tensors.slopes)
      try run(state.sumsOfTarget, 1, tensors.target, tensors.slopesOfTarget)
      try run(state.sumsOfParameter, 2, tensors.parameter, tensors.slopesOfParameter)
    }
  }
}

/// The sums of an operand's slopes over its repetitions, in units of some elements and a piece of their repetitions, which
/// are merged in order: the same bits whoever computes which.
struct BroadcastSums {
  private let space: BroadcastSpace
  private let operand: Int
  private let elements: Int
  private let repeats: Int
  /// Elements of the last dimensions that are all the operand's own, or all repetitions.
  private let inner: Int
  private let isInnerOwn: Bool
  /// Elements that are summed at a time, and how many such blocks there are.
  let blockSize: Int
  let blocks: Int
  private let repeatsOfPiece: Int
  let pieces: Int

  init(_ space: BroadcastSpace, _ operand: Int, _ tensor: TensorView) {
    (self.space, self.operand) = (space, operand)
    elements = tensor.count
    repeats = elements == 0 ? 0 : space.count / elements
    var inner = 1
    var isOwn: Bool?
    for dimension in stride(from: space.rank - 1, through: 0, by: -1)
    where space.shape[dimension] != 1 {
      let isDimensionOwn = space.strides[operand][dimension] != 0
      if isOwn == nil { isOwn = isDimensionOwn }
      if isOwn != isDimensionOwn { break }
      inner *= max(space.shape[dimension], 1)
    }
    self.inner = inner
    isInnerOwn = isOwn ?? true
    if isInnerOwn {
      blockSize = min(inner, Blocks.size)
      blocks = elements / inner * parts(inner, of: Blocks.size)
    } else {
      // Repetitions that lie behind one another are taken of several elements at once.
      blockSize = inner == repeats ? max(Blocks.size / inner, 1) : 1
      blocks = parts(elements, of: blockSize)
    }
    repeatsOfPiece = max(Pieces.size / blockSize, 1)
    pieces = max(parts(repeats, of: repeatsOfPiece), 1)
  }

  var units: Int { blocks * pieces }

  /// Nanoseconds, of those of an element.
  func unitCost(_ element: Double) -> Double {
    let repetitions = Double(min(repeats, repeatsOfPiece))
    return 100 + repetitions * (element * Double(blockSize) + 200 / Double(min(inner, Blocks.size)))
  }

  /// The first element of a block, and how many it has.
  private func range(_ block: Int) -> (first: Int, count: Int) {
    guard isInnerOwn else {
      let first = block * blockSize
      return (first, min(blockSize, elements - first))
    }
    let (run, part) = block.quotientAndRemainder(dividingBy: parts(inner, of: Blocks.size))
    let begin = part * Blocks.size
    return (run * inner + begin, min(Blocks.size, inner - begin))
  }

  /// Writes the sums of a unit to its place among the partial ones. `sums`: room for a block.
  func add(
    _ unit: Int, _ block: ElementBlock, _ sums: UnsafeMutablePointer<Double>,
    _ partials: UnsafeMutablePointer<Double>
  ) {
    let (index, piece) = unit.quotientAndRemainder(dividingBy: pieces)
    let (first, count) = range(index)
    let begin = piece * repeatsOfPiece
    let end = min(begin + repeatsOfPiece, repeats)
    for place in 0..<count { sums[place] = 0 }
    if isInnerOwn {
      addOwn(first, count, begin, end, block, sums)
    } else {
      addRepeated(first, count, begin, end, block, sums)
    }
    for place in 0..<count { partials[unit * blockSize + place] = sums[place] }
  }

  private func addOwn(
    _ first: Int, _ count: Int, _ begin: Int, _ end: Int, _ block: ElementBlock,
    _ sums: UnsafeMutablePointer<Double>
  ) {
    // Whole operands behind one another are taken several at a time.
    let together = inner == elements && inner <= Blocks.size ? Blocks.size / inner : 1
    var repetition = begin
    while repetition < end {
      let taken = min(together, end - repetition)
      let place = space.flatIndex(operand, first, repetition)
      let slopes = block.slopes(of: operand, place, taken * count)
      for index in 0..<taken {
        for element in 0..<count {
          sums[element] += block.tiles.get(slopes, index * count + element)
        }
      }
      repetition += taken
    }
  }

  private func addRepeated(
    _ first: Int, _ count: Int, _ begin: Int, _ end: Int, _ block: ElementBlock,
    _ sums: UnsafeMutablePointer<Double>
  ) {
    if blockSize > 1 {
      guard repeats > 0 else { return }
      let slopes = block.slopes(of: operand, first * repeats, count * repeats)
      for element in 0..<count {
        for index in 0..<repeats {
          sums[element] += block.tiles.get(slopes, element * repeats + index)
        }
      }
      return
    }
    var repetition = begin
    while repetition < end {
      let taken = min(inner - repetition % inner, Blocks.size, end - repetition)
      let place = space.flatIndex(operand, first, repetition)
      let slopes = block.slopes(of: operand, place, taken)
      for index in 0..<taken { sums.pointee += block.tiles.get(slopes, index) }
      repetition += taken
    }
  }

  /// Adds up the partial sums of a block and writes them.
  func merge(_ index: Int, _ partials: UnsafeMutablePointer<Double>, _ gradient: TensorView) {
    let (first, count) = range(index)
    for place in 0..<count {
      var sum = CompensatedSum()
      for piece in 0..<pieces { sum.add(partials[(index * pieces + piece) * blockSize + place]) }
      gradient[first + place] = sum.value
    }
  }
}
