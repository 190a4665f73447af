import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// Rows that are computed together: `count` from number `row` on.
private struct Batch {
  var row: Int
  var count: Int
  /// Where the operands' first rows begin, and how far it is to the next ones.
  var starts: BroadcastSpace.Offsets
  var steps: BroadcastSpace.Offsets
}

extension RowFunction {
  static func run(_ call: Call, _ state: RowPlan, _ chunk: Chunk) throws(StatusError) {
    let tensors = RowTensors(call, places, operands(call), state)
    if chunk.pass > 0 {
      for index in 0..<places.goals where state.passes[index] == chunk.pass {
        try addRepetitions(call, state, tensors, chunk, index)
      }
      return
    }
    if state.way == .columns {
      try state.units.eachRun(chunk.range, limit: .max) { row, count throws(StatusError) in
        var done = 0
        while done < count {
          let some = min(state.batch, count - done)
          let batch = Batch(
            row: row + done, count: some, starts: state.space.starts(row + done),
            steps: BroadcastSpace.Offsets(repeating: 1))
          try compute(call, state, tensors, chunk, batch)
          done += some
        }
      }
    } else {
      var row = chunk.range.lowerBound
      while row < chunk.range.upperBound {
        let batch = batch(state, row, chunk.range.upperBound - row)
        try compute(call, state, tensors, chunk, batch)
        row += batch.count
      }
    }
    guard places.isLoss else { return }
    let times = state.isOneForAll ? state.space.rows : 1
    chunk.add(Double(chunk.range.count) * Double(times), to: Sums.weights)
  }

  /// The next rows that lie at constant distances.
  private static func batch(_ state: RowPlan, _ row: Int, _ rest: Int) -> Batch {
    let space = state.space
    var batch = Batch(
      row: row, count: min(state.batch, rest), starts: space.starts(row),
      steps: BroadcastSpace.Offsets(repeating: space.length))
    if space.isWhole || state.batch == 1 { return batch }
    let dimension = space.runDimension
    guard dimension >= 0 else { return batch }
    let size = space.space.shape[dimension]
    batch.count = min(batch.count, size - row % size)
    for index in 0..<3 { batch.steps[index] = space.space.strides[index][dimension] }
    return batch
  }

  private static func compute(
    _ call: Call, _ state: RowPlan, _ tensors: RowTensors, _ chunk: Chunk, _ batch: Batch
  ) throws(StatusError) {
    let scratch = RowScratch(state)
    let base = chunk.scratch
    try addUp(call, state, tensors, scratch, base, batch)
    var needsTies = false
    for pair in 0..<state.pairCount where state.pairs[pair].isNorm {
      let norms = scratch.sums(base, pair)
      for row in 0..<batch.count { norms[row] = state.norm.value(norms[row]) }
      needsTies = needsTies || state.hasGoals && state.norm.hasTies
    }
    if needsTies { try addUp(call, state, tensors, scratch, base, batch, isTies: true) }
    settle(call, state, tensors, scratch, chunk, batch, hasTies: needsTies)
    if tensors.hasOwnGoals { try write(call, state, tensors, scratch, base, batch) }
  }

  // MARK: - Sums

  /// Adds up the pairs' sums over segments of the rows, or their ties.
  private static func addUp(
    _ call: Call, _ state: RowPlan, _ tensors: RowTensors, _ scratch: RowScratch,
    _ base: UnsafeMutableRawPointer, _ batch: Batch, isTies: Bool = false
  ) throws(StatusError) {
    let length = state.space.length
    let isCut = length > state.segment
    let totals = scratch.totals(base)
    if isCut {
      for index in 0..<9 * scratch.room { totals[index] = CompensatedSum() }
    }
    if length == 0 {
      for index in 0..<9 * scratch.room { scratch.sums(base, 0)[index] = 0 }
    }
    for begin in stride(from: 0, to: length, by: state.segment) {
      if begin > 0 { try call.checkCancelled() }
      let count = min(state.segment, length - begin)
      let rows = tensors.rows(batch.starts, begin, count, state, scratch, base)
      for pair in 0..<state.pairCount {
        let operands = state.pairs[pair]
        if isTies && !operands.isNorm { continue }
        let some = min(count, state.length(operands) - begin)
        if some <= 0 { continue }
        let sums = isTies ? scratch.ties(base, pair) : scratch.sums(base, pair)
        var rows = SummedRows(
          isTies ? .ties : operands.isNorm ? state.norm.sum ?? .magnitudes : .products,
          x: rows[operands.x], y: operands.y < 0 ? nil : rows[operands.y], shift: state.shift,
          count: batch.count, size: some, xStep: batch.steps[operands.x],
          yStep: operands.y < 0 ? 0 : batch.steps[operands.y],
          stride: state.way == .columns ? state.space.inner : 1,
          limits: isTies ? UnsafePointer(scratch.sums(base, pair)) : nil, sums: sums,
          room: scratch.room, scratch: scratch.columns(base))
        if state.isScalar {
          ScalarRows(state, tensors.isSingle).add(rows)
        } else {
          tensors.tiles.kernels.summedRows(&rows)
        }
        if isCut {
          merge(
            sums, totals + 3 * pair * scratch.room, state, operands, batch.count, scratch.room,
            isTies: isTies, isFirst: begin == 0)
        }
      }
    }
  }

  /// Adds a segment's sums to those of the segments before, and leaves the sum so far in their place.
  private static func merge(
    _ sums: UnsafeMutablePointer<Double>, _ totals: UnsafeMutablePointer<CompensatedSum>,
    _ state: RowPlan, _ pair: RowPair, _ count: Int, _ room: Int, isTies: Bool, isFirst: Bool
  ) {
    let isExtreme = pair.isNorm && state.norm.hasTies && !isTies
    for kind in 0..<(pair.isNorm ? 1 : 3) {
      for row in 0..<count {
        let place = kind * room + row
        if isExtreme {
          // An extreme so far is kept as a sum of one.
          var most = totals[place].value
          let value = sums[place]
          let isBeyond = state.norm.kind == .largest ? value > most : value < most
          if isFirst || isBeyond || value.isNaN { most = value }
          totals[place] = CompensatedSum()
          totals[place].add(most)
        } else {
          totals[place].add(sums[place])
        }
        sums[place] = totals[place].value
      }
    }
  }

  // MARK: - Results of rows

  private static func settle(
    _ call: Call, _ state: RowPlan, _ tensors: RowTensors, _ scratch: RowScratch,
    _ chunk: Chunk, _ batch: Batch, hasTies: Bool
  ) {
    let base = chunk.scratch
    let losses = ChunkTotal(chunk, Sums.losses)
    let (space, places) = (state.space, places)
    let (factors, room, needsFactors) = (scratch.factors(base, 0), scratch.room, state.hasGoals)
    for row in 0..<batch.count {
      let numbers = RowNumbers(
        sums: scratch.sums(base, 0) + row, tieCounts: hasTies ? scratch.ties(base, 0) + row : nil,
        room: room)
      let number = batch.row + row
      let result = result(
        numbers, state, label: tensors.label(number),
        scale: needsFactors ? tensors.scale(number, space.rows) : 0)
      tensors.values?[number] = result.value
      if places.isLoss { losses.add(result.value, times: state.isOneForAll ? space.rows : 1) }
      if !needsFactors { continue }
      for index in 0..<2 * places.goals { factors[index * room + row] = result.factors[index] }
      if state.keepsFactors && space.length > 0 {
        let kept = call.workspace.assumingMemoryBound(to: Double.self)
        for index in 0..<6 { kept[index * space.rows + number] = result.factors[index] }
        for pair in 0..<state.pairCount {
          kept[(6 + pair) * space.rows + number] = numbers.norm(pair)
        }
      }
    }
  }

  // MARK: - Results like operands

  /// Writes the goals that no repetition is summed for.
  private static func write(
    _ call: Call, _ state: RowPlan, _ tensors: RowTensors, _ scratch: RowScratch,
    _ base: UnsafeMutableRawPointer, _ batch: Batch
  ) throws(StatusError) {
    let length = state.space.length
    for begin in stride(from: 0, to: length, by: state.segment) {
      if begin > 0 { try call.checkCancelled() }
      let count = min(state.segment, length - begin)
      let rows = tensors.rows(batch.starts, begin, count, state, scratch, base)
      for index in 0..<places.goals where state.passes[index] < 0 {
        guard let output = tensors.goals[index] else { continue }
        let goal = goal(index, state)
        func term(_ term: GoalTerm, _ half: Int) -> RowTerm {
          RowTerm(
            term.pair == nil ? .linear : state.norm.slope, x: rows[term.x],
            y: term.y < 0 ? nil : rows[term.y], xStep: batch.steps[term.x],
            yStep: term.y < 0 ? 0 : batch.steps[term.y], shift: state.shift,
            factors: UnsafePointer(scratch.factors(base, 2 * index + half)),
            limits: term.pair.flatMap {
              state.norm.hasLimits ? UnsafePointer(scratch.sums(base, $0)) : nil
            })
        }
        let start = batch.starts[goal.operand]
        let isPlaced = state.way != .gathered
        let goalTile = scratch.tile(base, 3)
        var mixed = MixedRows(
          term(goal.first, 0), goal.second.map { term($0, 1) }, count: batch.count, size: count,
          stride: state.way == .columns ? state.space.inner : 1,
          output: isPlaced
            ? tensors.tiles.direct(
              output, start + begin * (state.way == .columns ? state.space.inner : 1)) : goalTile,
          outputStep: batch.steps[goal.operand])
        if state.isScalar {
          ScalarRows(state, tensors.isSingle).mix(
            mixed, isSlope: (goal.first.pair != nil, goal.second?.pair != nil))
        } else {
          tensors.tiles.kernels.mixedRows(&mixed)
        }
        if !isPlaced {
          let step = max(state.space.step(goal.operand), 1)
          for place in 0..<count {
            output[start + (begin + place) * step] = tensors.tiles.get(goalTile, place)
          }
        }
      }
    }
  }

  /// Sums a goal over the repetitions of its operand, a row of the operand a unit.
  private static func addRepetitions(
    _ call: Call, _ state: RowPlan, _ tensors: RowTensors, _ chunk: Chunk, _ index: Int
  ) throws(StatusError) {
    guard let output = tensors.goals[index] else { return }
    let (space, goal) = (state.space, goal(index, state))
    let scratch = RowScratch(state)
    let base = chunk.scratch
    let repeats = space.repeats(goal.operand)
    let isOne = space.isOneForRow(goal.operand)
    let length = isOne ? 1 : space.length
    let tile = scratch.tile(base, 3)
    let sums = scratch.tile(base, 4).assumingMemoryBound(to: Double.self)
    let errors = scratch.tile(base, 5).assumingMemoryBound(to: Double.self)
    var walked = 0
    for own in chunk.range {
      let start = space.start(goal.operand, own: own)
      var whole = CompensatedSum()
      for begin in stride(from: 0, to: max(space.length, length), by: RowPlan.tileElements) {
        let count = max(min(RowPlan.tileElements, space.length - begin), 0)
        for place in 0..<max(count, 1) { (sums[place], errors[place]) = (0, 0) }
        // Rows without elements may repeat more often than anybody counts.
        for repetition in 0..<(count > 0 ? repeats : 0) {
          walked += count + 16
          if walked > 1 << 18 {
            try call.checkCancelled()
            walked = 0
          }
          let row = space.row(goal.operand, own: own, repetition: repetition)
          let rows = tensors.rows(space.starts(row), begin, count, state, scratch, base)
          let kept = call.workspace.assumingMemoryBound(to: Double.self)
          func add(_ term: GoalTerm, _ half: Int) {
            var some = count
            if let pair = term.pair { some = min(count, state.length(state.pairs[pair]) - begin) }
            if some <= 0 { return }
            var mixed = MixedRows(
              RowTerm(
                term.pair == nil ? .linear : state.norm.slope, x: rows[term.x],
                y: term.y < 0 ? nil : rows[term.y], xStep: 0, shift: state.shift,
                factors: UnsafePointer(kept + (2 * index + half) * space.rows + row),
                limits: term.pair.map { UnsafePointer(kept + (6 + $0) * space.rows + row) }),
              count: 1, size: some, output: tile, outputStep: 0)
            if state.isScalar {
              ScalarRows(state, tensors.isSingle).mix(
                mixed, isSlope: (term.pair != nil, false))
            } else {
              tensors.tiles.kernels.mixedRows(&mixed)
            }
            if tensors.tiles.isDouble {
              addTile(tile.assumingMemoryBound(to: Double.self), sums, errors, some) { $0 }
            } else {
              addTile(tile.assumingMemoryBound(to: Float.self), sums, errors, some) { Double($0) }
            }
          }
          add(goal.first, 0)
          if let second = goal.second { add(second, 1) }
        }
        if isOne {
          for place in 0..<count {
            whole.add(sums[place])
            whole.add(errors[place])
          }
          continue
        }
        let step = max(space.step(goal.operand), 1)
        for place in 0..<count {
          let value = sums[place] + errors[place]
          output[start + (begin + place) * step] = value.isNaN ? sums[place] : value
        }
      }
      if isOne { output[start] = whole.value }
    }
  }

  /// Adds a tile to the sums, and what that rounds away to the errors (Knuth's TwoSum).
  @inline(__always)
  private static func addTile<T>(
    _ tile: UnsafePointer<T>, _ sums: UnsafeMutablePointer<Double>,
    _ errors: UnsafeMutablePointer<Double>, _ count: Int, _ widened: (T) -> Double
  ) {
    for place in 0..<count {
      let value = widened(tile[place])
      let old = sums[place]
      let sum = old + value
      let part = sum - old
      errors[place] += (old - (sum - part)) + (value - part)
      sums[place] = sum
    }
  }
}

/// The tensors of a call.
struct RowTensors {
  let operands: InlineArray<3, TensorView?>
  private let operandCount: Int
  private let labels: TensorView?
  private let upstream: TensorView?
  private let reduction: LossReduction?
  /// Of a loss: nil unless there is one a row.
  let values: TensorView?
  private(set) var goals = InlineArray<3, TensorView?>(repeating: nil)
  /// Whether any goal is written at once.
  private(set) var hasOwnGoals = false
  let tiles: Tiles
  /// Whether differences are float32's, as torch's are.
  let isSingle: Bool

  init(
    _ call: Call, _ places: RowPlaces, _ operands: InlineArray<3, TensorView?>, _ state: RowPlan
  ) {
    self.operands = operands
    operandCount = places.operands
    labels = call.input(places.label)
    upstream = call.input(places.upstream)
    reduction = places.isLoss ? LossReduction(call.attributes) : nil
    let isEach = reduction == nil || reduction == .some(.none)
    values = isEach ? places.value.flatMap { call.output($0) } : nil
    for index in 0..<places.goals {
      guard let goal = call.output(places.firstGoal + index) else { continue }
      goals[index] = goal
      if state.passes[index] < 0 { hasOwnGoals = true }
    }
    var isSingle = true
    for index in 0..<3 {
      guard let operand = operands[index] else { continue }
      if !operand.dataType.isFloatingPoint || operand.dataType == .float64 { isSingle = false }
    }
    self.isSingle = isSingle
    // There is a first operand: the host has refused a call without.
    let first = operands[0].unsafelyUnwrapped
    tiles =
      state.isScalar
      ? Tiles(reference: first)
      : Tiles(
        Kernels.chosen ?? Kernels.baseline, first, operands[1], operands[2],
        isWide: state.way == .gathered || state.keepsFactors)
  }

  @inline(__always)
  func label(_ row: Int) -> Double {
    guard let labels else { return 0 }
    return labels[labels.count == 1 ? 0 : row]
  }

  @inline(__always)
  func scale(_ row: Int, _ rows: Int) -> Double {
    guard let reduction else { return upstream.map { $0[row] } ?? 1 }
    return reduction.scale(upstream, row, weightSum: Double(rows))
  }

  typealias Pointers = InlineArray<3, UnsafeRawPointer>

  /// Elements from `begin` on of the operands' rows that start there: in place, or converted into tiles.
  func rows(
    _ starts: BroadcastSpace.Offsets, _ begin: Int, _ count: Int, _ state: RowPlan,
    _ scratch: RowScratch, _ base: UnsafeMutableRawPointer
  ) -> Pointers {
    var rows = Pointers(repeating: UnsafeRawPointer(base))
    for index in 0..<operandCount {
      guard let operand = operands[index] else {
        // An upstream gradient that was not sent.
        if scratch.hasTiles {
          let tile = scratch.tile(base, index)
          for place in 0..<min(count, RowPlan.tileElements) { tiles.set(tile, place, 1) }
          rows[index] = UnsafeRawPointer(tile)
        }
        continue
      }
      if state.way == .columns {
        rows[index] = UnsafeRawPointer(
          tiles.direct(operand, starts[index] + begin * state.space.inner))
      } else if state.space.isContiguous(index) && tiles.isDirect(operand) {
        rows[index] = UnsafeRawPointer(tiles.direct(operand, starts[index] + begin))
      } else {
        let tile = scratch.tile(base, index)
        if state.space.isContiguous(index) {
          rows[index] = tiles.read(operand, starts[index] + begin, count, tile: tile)
        } else {
          let step = state.space.step(index)
          for place in 0..<count {
            tiles.set(tile, place, operand[starts[index] + (begin + place) * step])
          }
          rows[index] = UnsafeRawPointer(tile)
        }
      }
    }
    return rows
  }
}
