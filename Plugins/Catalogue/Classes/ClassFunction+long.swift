import Glibc
import LossdKernels
import LossdPluginKit
import LossdTensor

/// More classes than one unit takes. Its passes, after that over the weights where there is one:
/// the blocks' states; their merging, with the targets' own part of the loss; what every class adds
/// to the loss (probabilities, smoothing) and the gradients; and for reduction=none the merging of
/// that part.
struct LongClasses: BitwiseCopyable {
  var layout: LongLayout
  /// The first of the passes above.
  var firstPass: Int
  /// Every class has its part in the loss: the target is probabilities, or smoothed.
  var isSpread: Bool
  var type: DataType
}

/// A part of a long row, and where its gradient goes.
struct LongColumn<T: LongElement> {
  let x: UnsafePointer<T>
  let y: UnsafeMutablePointer<T>
  let block: LongBlock
  let column: Int
  let part: RowState
  let row: RowState
  /// What the row's gradient is multiplied by.
  let scale: Double

  var count: Int { block.length }
  var position: Int { block.row + column }

  /// Writes `factor` times the row's probabilities.
  func writeProbabilities(times factor: Double) {
    T.probabilities(x, y, count, part: part, row: row, times: factor)
  }
}

extension ClassFunction {
  static func planLong(
    _ call: Call, _ plan: inout Plan, _ state: ClassState, _ input: TensorView
  ) -> LongClasses {
    let (layout, costs) = (state.layout, costs(call, input))
    let long = LongLayout(rows: layout.positions, size: layout.classes, inner: layout.inner)
    let isSpread = state.hasProbabilities || Self(call.attributes).smoothing > 0
    let spreadCost = 20 * Double(LongLayout.blockElements)
    plan.addPass(
      units: long.blockUnits, unitCost: ClassCosts.block(input) + (isSpread ? spreadCost / 2 : 0))
    plan.addPass(
      units: long.mergeUnits, unitCost: 25 * Double((long.blocks + costs.settled) * long.width))
    if isSpread || call.wants(ClassPlaces.gradient)
      || call.wants(ClassPlaces.gradientOfProbabilities)
    {
      plan.addPass(units: long.blockUnits, unitCost: costs.gradient)
    }
    if isSpread && LossReduction(call.attributes) == .none && call.wants(ClassPlaces.loss) {
      plan.addPass(units: long.mergeUnits, unitCost: 10 * Double(long.blocks * long.width))
    }
    plan.setWorkspace(bytes: long.workspaceBytes)
    let bytes =
      input.dataType == .float64 ? MemoryLayout<Double>.size : MemoryLayout<Float>.size
    plan.setScratch(bytes: 2 * LongLayout.blockElements * bytes)
    return LongClasses(
      layout: long, firstPass: state.sumsWeightsFirst ? 1 : 0, isSpread: isSpread,
      type: input.dataType)
  }

  static func runLong(
    _ call: Call, _ state: ClassState, _ long: LongClasses, _ chunk: Chunk, _ input: TensorView,
    _ target: TensorView
  ) throws(StatusError) {
    switch chunk.pass - long.firstPass {
    case 1: try settleRows(call, state, long, chunk, input, target)
    case 3: addSpread(call, long, chunk)
    case let pass:
      if long.type == .float64 {
        runBlocks(Double.self, call, state, long, chunk, input, isMeasuring: pass == 0)
      } else {
        runBlocks(Float.self, call, state, long, chunk, input, isMeasuring: pass == 0)
      }
    }
  }

  private static func runBlocks<T: LongElement>(
    _ type: T.Type, _ call: Call, _ state: ClassState, _ long: LongClasses, _ chunk: Chunk,
    _ input: TensorView, isMeasuring: Bool
  ) {
    let scratch = chunk.scratch.assumingMemoryBound(to: T.self)
    let loss = Self(call.attributes)
    let shares = ClassShares(call, state, loss.smoothing)
    let losses = ChunkTotal(chunk, Sums.losses)
    for unit in chunk.range {
      let block = long.layout.block(unit)
      let x = LongTile(reading: input, block, type: input.dataType, scratch: scratch)
      let states = long.layout.states(call.workspace) + block.state
      let rows = long.layout.rowStates(call.workspace) + block.row
      for column in 0..<block.columns {
        if isMeasuring {
          states[column] = T.state(x.column(column), block.length)
          if long.isSpread { states[column].share = shares.sum(block, column) }
        } else if long.isSpread {
          states[column].loss = spreadLoss(
            long, block, column, x.column(column), rows[column], shares)
          losses.add(states[column].loss)
        }
      }
      if isMeasuring { continue }
      loss.differentiate(call, state, long, block, x, shares, scratch + LongLayout.blockElements)
    }
  }

  /// Merges the states, checks the targets and adds their own part of the loss.
  private static func settleRows(
    _ call: Call, _ state: ClassState, _ long: LongClasses, _ chunk: Chunk, _ input: TensorView,
    _ target: TensorView
  ) throws(StatusError) {
    let loss = Self(call.attributes)
    let merged = long.layout.rowStates(call.workspace)
    let weight = call.input(ClassPlaces.weight)
    let extremes = Extremes(input.dataType)
    let perRow = LossReduction(call.attributes) == .none ? call.output(ClassPlaces.loss) : nil
    for unit in chunk.range {
      try long.layout.merge(unit, call, sharesAreScaled: false)
      let block = long.layout.block(unit * long.layout.blocks)
      for row in block.row..<block.row + block.columns {
        if state.hasProbabilities {
          chunk.add(1, to: Sums.weights)
          continue
        }
        var value = 0.0
        if let label = try label(call, state, target, row) {
          let w = weight.map { $0[label] } ?? 1
          let x = input[state.layout.start(row) + label * state.layout.inner]
          value = loss.settle(
            &merged[row], logProbability: merged[row].logProbability(x), weight: w, extremes)
          chunk.add(value, to: Sums.losses)
          if !state.sumsWeightsFirst { chunk.add(w, to: Sums.weights) }
        }
        perRow?[row] = value
      }
    }
  }

  /// A block's part of what every class adds to a row's loss.
  private static func spreadLoss<T: LongElement>(
    _ long: LongClasses, _ block: LongBlock, _ column: Int, _ x: UnsafePointer<T>, _ row: RowState,
    _ shares: ClassShares
  ) -> Double {
    guard long.isSpread, shares.isKept(block.row + column) else { return 0 }
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
  private func differentiate<T: LongElement>(
    _ call: Call, _ state: ClassState, _ long: LongClasses, _ block: LongBlock, _ x: LongTile<T>,
    _ shares: ClassShares, _ scratch: UnsafeMutablePointer<T>
  ) {
    let gradient = call.output(ClassPlaces.gradient)
    let targetGradient =
      state.hasProbabilities ? call.output(ClassPlaces.gradientOfProbabilities) : nil
    if gradient == nil && targetGradient == nil { return }
    let reduction = LossReduction(call.attributes)
    let weightSum = state.weightSum(call)
    let rows = long.layout.rowStates(call.workspace) + block.row
    let parts = long.layout.states(call.workspace) + block.state
    func scale(_ column: Int) -> Double {
      reduction.scale(call.input(ClassPlaces.upstream), block.row + column, weightSum: weightSum)
    }
    if let gradient {
      let y = LongTile(writing: gradient, block, scratch: scratch)
      for column in 0..<block.columns {
        differentiate(
          LongColumn(
            x: x.column(column), y: y.column(column), block: block, column: column,
            part: parts[column], row: rows[column], scale: scale(column)), shares)
      }
      y.commit(gradient, block)
    }
    guard let targetGradient else { return }
    let extremes = Extremes(long.type)
    for column in 0..<block.columns {
      let (row, scale, x) = (rows[column], scale(column), x.column(column))
      let logSum = row.logSum
      for index in 0..<block.length {
        let w = shares.weight.map { $0[block.first + index] } ?? 1
        let logarithm = extremes.overflowing(x[index].widened - row.max - logSum)
        targetGradient[block.place(column, index)] =
          (1 - shares.smoothing) * -extremes.overflowing(scale * w * logarithm)
      }
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
struct ClassShares {
  let input: TensorView?
  let target: TensorView?
  let weight: TensorView?
  let smoothing: Double
  private let uniform: Double
  private let hasProbabilities: Bool
  private let ignored: Int64

  init(_ call: Call, _ state: ClassState, _ smoothing: Double) {
    input = call.input(ClassPlaces.input)
    target = call.input(ClassPlaces.target)
    weight = call.input(ClassPlaces.weight)
    self.smoothing = smoothing
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

  /// Whether anything is spread.
  var isSpread: Bool { hasProbabilities || smoothing > 0 }

  /// The class of a row; nil where it is probabilities or ignored.
  func label(_ position: Int) -> Int? {
    guard !hasProbabilities, let target else { return nil }
    let label = target.integer(position)
    return label == ignored ? nil : Int(label)
  }

  func isKept(_ position: Int) -> Bool { hasProbabilities || label(position) != nil }
}
