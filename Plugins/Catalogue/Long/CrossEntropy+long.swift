import Glibc
import LossdKernels
import LossdPluginKit
import LossdTensor

/// Cross entropy over more classes than one unit takes. Its passes, after that over the weights where there
/// is one: the blocks' states; their merging, with the targets' own part of the loss; what every class adds
/// to the loss (probabilities, smoothing) and the gradients; and for reduction=none the merging of that part.
struct LongClasses: BitwiseCopyable {
  var layout: LongLayout
  /// The first of the passes above.
  var firstPass: Int
  /// Every class has its part in the loss: the target is probabilities, or smoothed.
  var isSpread: Bool
  var type: DataType
}

extension CrossEntropyFunction {
  static func planLong(
    _ call: Call, _ plan: inout Plan, _ layout: ClassLayout, _ input: TensorView, firstPass: Int,
    hasProbabilities: Bool
  ) -> LongClasses {
    let long = LongLayout(rows: layout.positions, size: layout.classes, inner: layout.inner)
    let isSpread = hasProbabilities || call.attributes.float(ClassPlaces.smoothing) > 0
    let cost = (input.dataType == .float64 ? 20.0 : 3) * Double(LongLayout.blockElements)
    let spreadCost = 20 * Double(LongLayout.blockElements)
    plan.addPass(units: long.blockUnits, unitCost: cost + (isSpread ? spreadCost / 2 : 0))
    plan.addPass(units: long.mergeUnits, unitCost: 25 * Double((long.blocks + 2) * long.width))
    if isSpread || call.wants(ClassPlaces.gradient)
      || call.wants(ClassPlaces.gradientOfProbabilities)
    {
      plan.addPass(units: long.blockUnits, unitCost: cost + spreadCost)
    }
    if isSpread && Reduction(call.attributes) == .none && call.wants(ClassPlaces.loss) {
      plan.addPass(units: long.mergeUnits, unitCost: 10 * Double(long.blocks * long.width))
    }
    plan.setWorkspace(bytes: long.workspaceBytes)
    let bytes =
      input.dataType == .float64 ? MemoryLayout<Double>.size : MemoryLayout<Float>.size
    plan.setScratch(bytes: 2 * LongLayout.blockElements * bytes)
    return LongClasses(
      layout: long, firstPass: firstPass, isSpread: isSpread, type: input.dataType)
  }

  static func runLong(
    _ call: Call, _ state: ClassState, _ long: LongClasses, _ chunk: Chunk
  ) throws(StatusError) {
    switch chunk.pass - long.firstPass {
    case 1: try settleRows(call, state, long, chunk)
    case 3: addSpread(call, long, chunk)
    case let pass:
      if long.type == .float64 {
        runBlocks(Double.self, call, state, long, chunk, isMeasuring: pass == 0)
      } else {
        runBlocks(Float.self, call, state, long, chunk, isMeasuring: pass == 0)
      }
    }
  }

  private static func runBlocks<T: LongElement>(
    _ type: T.Type, _ call: Call, _ state: ClassState, _ long: LongClasses, _ chunk: Chunk,
    isMeasuring: Bool
  ) {
    guard let input = call.input(ClassPlaces.input) else { return }
    let scratch = chunk.scratch.assumingMemoryBound(to: T.self)
    let shares = ClassShares(call, state)
    var losses = CompensatedSum()
    for unit in chunk.range {
      let block = long.layout.block(unit)
      let x = LongTile(reading: input, block, type: input.dataType, scratch: scratch)
      let states = long.layout.states(call.workspace) + block.state
      if isMeasuring {
        for column in 0..<block.columns {
          states[column] = T.state(x.column(column), block.length)
          if long.isSpread { states[column].share = shares.sum(block, column) }
        }
        continue
      }
      for column in 0..<block.columns {
        let row = long.layout.rowStates(call.workspace)[block.row + column]
        states[column].loss = spreadLoss(long, block, column, x.column(column), row, shares)
        losses.add(states[column].loss)
      }
      differentiate(call, state, long, block, x, shares, scratch + LongLayout.blockElements)
    }
    chunk.sums[Sums.losses] += losses.value
  }

  /// Merges the states, checks the targets and adds their own part of the loss.
  private static func settleRows(
    _ call: Call, _ state: ClassState, _ long: LongClasses, _ chunk: Chunk
  ) throws(StatusError) {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { return }
    let merged = long.layout.rowStates(call.workspace)
    let weight = call.input(ClassPlaces.weight)
    let smoothing = call.attributes.float(ClassPlaces.smoothing)
    let extremes = Extremes(input.dataType)
    let perRow = Reduction(call.attributes) == .none ? call.output(ClassPlaces.loss) : nil
    for unit in chunk.range {
      try long.layout.merge(unit, call, sharesAreScaled: false)
      let block = long.layout.block(unit * long.layout.blocks)
      for row in block.row..<block.row + block.columns {
        if state.hasProbabilities {
          chunk.sums[Sums.weights] += 1
          continue
        }
        let label = target.integer(row)
        var loss = 0.0
        if label != call.attributes.int(ClassPlaces.ignoreIndex) {
          try checkLabel(label, row, target, state.layout.classes)
          let w = weight.map { $0[Int(label)] } ?? 1
          let x = input[state.layout.start(row) + Int(label) * state.layout.inner]
          let picked = extremes.overflowing(merged[row].logProbability(x))
          loss = (1 - smoothing) * extremes.overflowing(-w * picked)
          chunk.sums[Sums.losses] += loss
          if !state.sumsWeightsFirst { chunk.sums[Sums.weights] += w }
        }
        perRow?[row] = loss
        // The gradient wants the sum of shares; the loss is kept for the last pass.
        merged[row].loss = loss
      }
    }
  }

  /// A block's part of what every class adds to a row's loss.
  private static func spreadLoss<T: LongElement>(
    _ long: LongClasses, _ block: LongBlock, _ column: Int, _ x: UnsafePointer<T>, _ row: RowState,
    _ shares: ClassShares
  ) -> Double {
    guard long.isSpread, shares.row(block.row + column).isKept else { return 0 }
    let extremes = Extremes(long.type)
    let logSum = row.logSum
    var loss = CompensatedSum()
    for index in 0..<block.length {
      let logarithm = extremes.overflowing(x[index].widened - row.max - logSum)
      loss.add(-shares.spread(block, column, index) * logarithm)
    }
    return loss.value
  }

  /// Writes a block's part of the gradients.
  private static func differentiate<T: LongElement>(
    _ call: Call, _ state: ClassState, _ long: LongClasses, _ block: LongBlock, _ x: LongTile<T>,
    _ shares: ClassShares, _ scratch: UnsafeMutablePointer<T>
  ) {
    guard call.wants(ClassPlaces.gradient) || call.wants(ClassPlaces.gradientOfProbabilities) else {
      return
    }
    let weightSum =
      state.hasProbabilities ? Double(state.layout.positions) : call.totals[Sums.weights]
    let reduction = Reduction(call.attributes)
    let rows = long.layout.rowStates(call.workspace)
    let parts = long.layout.states(call.workspace) + block.state
    func scale(_ column: Int) -> Double {
      reduction.scale(call.input(ClassPlaces.upstream), block.row + column, weightSum: weightSum)
    }
    if let gradient = call.output(ClassPlaces.gradient) {
      let y = LongTile(writing: gradient, block, scratch: scratch)
      for column in 0..<block.columns {
        ofInput(
          long, block, column, x.column(column), y.column(column), parts[column],
          rows[block.row + column], shares, scale(column))
      }
      y.commit(gradient, block)
    }
    guard let targetGradient = call.output(ClassPlaces.gradientOfProbabilities) else { return }
    let extremes = Extremes(long.type)
    for column in 0..<block.columns {
      let (row, scale, x) = (rows[block.row + column], scale(column), x.column(column))
      let logSum = row.logSum
      for index in 0..<block.length {
        let w = shares.weight.map { $0[block.first + index] } ?? 1
        let logarithm = extremes.overflowing(x[index].widened - row.max - logSum)
        targetGradient[block.place(column, index)] =
          (1 - shares.smoothing) * -extremes.overflowing(scale * w * logarithm)
      }
    }
  }

  private static func ofInput<T: LongElement>(
    _ long: LongClasses, _ block: LongBlock, _ column: Int, _ x: UnsafePointer<T>,
    _ y: UnsafeMutablePointer<T>, _ part: RowState, _ row: RowState, _ shares: ClassShares,
    _ scale: Double
  ) {
    let own = shares.row(block.row + column)
    let place = own.label - block.first
    guard own.isKept else {
      // 0, and NaN where the logits are, or weights that torch multiplies by 0.
      T.probabilities(x, y, block.length, part: part, row: row, times: 0 * row.share)
      return
    }
    let factor = scale * (row.share + own.weight)
    T.probabilities(x, y, block.length, part: part, row: row, times: factor)
    if long.isSpread {
      for index in 0..<block.length {
        let share = shares.spread(block, column, index) + (index == place ? own.weight : 0)
        y[index] = T(rounding: y[index].widened - scale * share)
      }
    } else if place >= 0 && place < block.length {
      let p = exp(x[place].widened - row.max) / (1 + row.rest)
      y[place] = T(rounding: scale * own.weight * (p - 1))
    }
  }

  /// reduction=none: the parts of all classes, on top of the target's own.
  private static func addSpread(_ call: Call, _ long: LongClasses, _ chunk: Chunk) {
    guard let output = call.output(ClassPlaces.loss) else { return }
    let (partials, merged) =
      (long.layout.states(call.workspace), long.layout.rowStates(call.workspace))
    for unit in chunk.range {
      let first = long.layout.block(unit * long.layout.blocks)
      for column in 0..<first.columns {
        var sum = CompensatedSum()
        sum.add(merged[first.row + column].loss)
        for block in 0..<long.layout.blocks {
          sum.add(partials[first.state + block * long.layout.width + column].loss)
        }
        output[first.row + column] = sum.value
      }
    }
  }
}

/// What each class of a row counts in the loss: the factor of its -log p.
private struct ClassShares {
  let input: TensorView?
  let target: TensorView?
  let weight: TensorView?
  let smoothing: Double
  private let uniform: Double
  private let hasProbabilities: Bool
  private let ignored: Int64

  init(_ call: Call, _ state: ClassState) {
    input = call.input(ClassPlaces.input)
    target = call.input(ClassPlaces.target)
    weight = call.input(ClassPlaces.weight)
    smoothing = call.attributes.float(ClassPlaces.smoothing)
    uniform = smoothing / Double(state.layout.classes)
    hasProbabilities = state.hasProbabilities
    ignored = call.attributes.int(ClassPlaces.ignoreIndex)
  }

  /// What is spread over all classes, without the target's own part.
  @inline(__always)
  func spread(_ block: LongBlock, _ column: Int, _ index: Int) -> Double {
    let w = weight.map { $0[block.first + index] } ?? 1
    guard hasProbabilities, let target else { return uniform * w }
    return w * (target[block.place(column, index)] * (1 - smoothing) + uniform)
  }

  func sum(_ block: LongBlock, _ column: Int) -> Double {
    var sum = CompensatedSum()
    for index in 0..<block.length { sum.add(spread(block, column, index)) }
    return sum.value
  }

  /// The target's own part of a row: none where it is probabilities or ignored.
  func row(_ position: Int) -> (isKept: Bool, label: Int, weight: Double) {
    guard !hasProbabilities, let target else { return (true, -1, 0) }
    let label = target.integer(position)
    if label == ignored { return (false, -1, 0) }
    return (true, Int(label), (1 - smoothing) * (weight.map { $0[Int(label)] } ?? 1))
  }
}
