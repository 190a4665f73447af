import Glibc
import LossdKernels
import LossdPluginKit
import LossdTensor

// More classes than one unit of work takes, in the passes of cross_entropy: the blocks' states; their merging, which
// gives each row's loss; the gradient.
extension ClassFormula {
  static func planLong(
    _ plan: inout Plan, _ input: TensorView, _ layout: ClassLayout, firstPass: Int,
    hasGradient: Bool
  ) -> LongClasses {
    let long = LongLayout(rows: layout.positions, size: layout.classes, inner: layout.inner)
    let cost = (input.dataType == .float64 ? 20.0 : 3) * Double(LongLayout.blockElements)
    plan.addPass(units: long.blockUnits, unitCost: cost)
    plan.addPass(units: long.mergeUnits, unitCost: 25 * Double((long.blocks + 4) * long.width))
    if hasGradient { plan.addPass(units: long.blockUnits, unitCost: 2 * cost) }
    plan.setWorkspace(bytes: long.workspaceBytes)
    let bytes =
      input.dataType == .float64 ? MemoryLayout<Double>.size : MemoryLayout<Float>.size
    plan.setScratch(bytes: 2 * LongLayout.blockElements * bytes)
    return LongClasses(
      layout: long, firstPass: firstPass, isSpread: false, type: input.dataType)
  }

  static func runLong(
    _ call: Call, _ state: ClassState, _ long: LongClasses, _ chunk: Chunk, _ input: TensorView,
    _ target: TensorView
  ) throws(StatusError) {
    let pass = chunk.pass - long.firstPass
    if pass == 1 {
      try settleRows(call, state, long, chunk, input, target)
    } else if long.type == .float64 {
      runBlocks(Double.self, call, state, long, chunk, input, target, isMeasuring: pass == 0)
    } else {
      runBlocks(Float.self, call, state, long, chunk, input, target, isMeasuring: pass == 0)
    }
  }

  /// Merges the states of each row, and keeps what its gradient is made of: as `loss` its cross entropy, as `share`
  /// the slope of its loss.
  private static func settleRows(
    _ call: Call, _ state: ClassState, _ long: LongClasses, _ chunk: Chunk, _ input: TensorView,
    _ target: TensorView
  ) throws(StatusError) {
    let formula = Self(call.attributes)
    let merged = long.layout.rowStates(call.workspace)
    let weight = call.input(ClassPlaces.weight)
    let perRow = Reduction(call.attributes) == .none ? call.output(ClassPlaces.loss) : nil
    for unit in chunk.range {
      try long.layout.merge(unit, call, sharesAreScaled: false)
      let block = long.layout.block(unit * long.layout.blocks)
      for row in block.row..<block.row + block.columns {
        merged[row].share = 0
        var loss = 0.0
        if let label = try label(call, state, target, row) {
          let x = input[state.layout.start(row) + label * state.layout.inner]
          let l = -merged[row].logProbability(x)
          let (value, slope) = formula.results(l < 0 ? 0 : l)
          let w = weight.map { $0[label] } ?? 1
          loss = w * value
          (merged[row].loss, merged[row].share) = (l, w * slope)
          chunk.sums[Sums.losses] += loss
          if !state.sumsWeightsFirst { chunk.sums[Sums.weights] += w }
        }
        perRow?[row] = loss
      }
    }
  }

  private static func runBlocks<T: LongElement>(
    _ type: T.Type, _ call: Call, _ state: ClassState, _ long: LongClasses, _ chunk: Chunk,
    _ input: TensorView, _ target: TensorView, isMeasuring: Bool
  ) {
    let scratch = chunk.scratch.assumingMemoryBound(to: T.self)
    let reduction = Reduction(call.attributes)
    let ignored = call.attributes.int(ClassPlaces.ignoreIndex)
    let rows = long.layout.rowStates(call.workspace)
    for unit in chunk.range {
      let block = long.layout.block(unit)
      let x = LongTile(reading: input, block, type: input.dataType, scratch: scratch)
      let states = long.layout.states(call.workspace) + block.state
      if isMeasuring {
        for column in 0..<block.columns { states[column] = T.state(x.column(column), block.length) }
        continue
      }
      guard let gradient = call.output(ClassPlaces.gradient) else { continue }
      let y = LongTile(writing: gradient, block, scratch: scratch + LongLayout.blockElements)
      for column in 0..<block.columns {
        let position = block.row + column
        let label = target.integer(position)
        let isKept = label != ignored
        let factor =
          isKept
          ? rows[position].share
            * reduction.scale(
              call.input(ClassPlaces.upstream), position, weightSum: call.totals[Sums.weights]) : 0
        T.probabilities(
          x.column(column), y.column(column), block.length, part: states[column],
          row: rows[position], times: factor)
        // Of a label that was another when it was checked, too.
        if isKept && label >= Int64(block.first) && label < Int64(block.first + block.length) {
          y.column(column)[Int(label) - block.first] = T(
            rounding: factor * expm1(-rows[position].loss))
        }
      }
      y.commit(gradient, block)
    }
  }
}
