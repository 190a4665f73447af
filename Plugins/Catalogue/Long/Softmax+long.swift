import LossdPluginKit
import LossdTensor

/// Softmax of rows too long for one unit: a pass over blocks for their states, one that merges them, and
/// one that writes.
extension SoftmaxFunction {
  static func planLong(_ call: Call, _ plan: inout Plan, _ long: LongLayout, _ type: DataType) {
    let cost = (type == .float64 ? 20.0 : 3) * Double(LongLayout.blockElements)
    plan.addPass(units: long.blockUnits, unitCost: cost)
    plan.addPass(units: long.mergeUnits, unitCost: 25 * Double(long.blocks * long.width))
    plan.addPass(units: long.blockUnits, unitCost: 2 * cost)
    plan.setWorkspace(bytes: long.workspaceBytes)
    let bytes = type == .float64 ? MemoryLayout<Double>.size : MemoryLayout<Float>.size
    plan.setScratch(bytes: 3 * LongLayout.blockElements * bytes)
  }

  static func runLong(
    _ call: Call, _ state: SoftmaxState, _ long: LongLayout, _ chunk: Chunk, pass: Int
  ) throws(StatusError) {
    if pass == 1 {
      for unit in chunk.range {
        try long.merge(unit, call, sharesAreScaled: !isLogarithmic)
      }
    } else if state.type == .float64 {
      runBlocks(Double.self, call, state, long, chunk, pass: pass)
    } else {
      runBlocks(Float.self, call, state, long, chunk, pass: pass)
    }
  }

  private static func runBlocks<T: LongElement>(
    _ type: T.Type, _ call: Call, _ state: SoftmaxState, _ long: LongLayout, _ chunk: Chunk,
    pass: Int
  ) {
    guard let input = source(call) else { return }
    let scratch = chunk.scratch.assumingMemoryBound(to: T.self)
    let (second, third) = (
      scratch + LongLayout.blockElements, scratch + 2 * LongLayout.blockElements
    )
    for unit in chunk.range {
      let block = long.block(unit)
      let x = LongTile(reading: input, block, type: state.type, scratch: scratch)
      let upstream =
        call.wants(ActivationPlaces.gradient)
        ? call.input(ActivationPlaces.upstream).map {
          LongTile(reading: $0, block, type: state.type, scratch: second)
        }
        : nil
      let parts = long.states(call.workspace) + block.state
      if pass == 0 {
        for column in 0..<block.columns {
          parts[column] = measure(
            x.column(column), upstream?.column(column), block.length, third)
        }
        continue
      }
      let rows = long.rowStates(call.workspace) + block.row
      if let output = call.output(ActivationPlaces.output) {
        let y = LongTile(writing: output, block, scratch: third)
        for column in 0..<block.columns {
          write(x.column(column), y.column(column), block.length, parts[column], rows[column])
        }
        y.commit(output, block)
      }
      if let gradient = call.output(ActivationPlaces.gradient) {
        let y = LongTile(writing: gradient, block, scratch: third)
        for column in 0..<block.columns {
          differentiate(
            x.column(column), upstream?.column(column), y.column(column), block.length,
            parts[column], rows[column])
        }
        y.commit(gradient, block)
      }
    }
  }

  /// The state of a part, with its share of what the gradient is less of.
  private static func measure<T: LongElement>(
    _ x: UnsafePointer<T>, _ upstream: UnsafeMutablePointer<T>?, _ count: Int,
    _ scratch: UnsafeMutablePointer<T>
  ) -> RowState {
    var part = T.state(x, count)
    guard let upstream else {
      part.share = isLogarithmic ? Double(count) : 1
      return part
    }
    let isEmpty = part.max == -.infinity
    if !isLogarithmic && !isEmpty {
      T.probabilities(x, scratch, count, part: part, row: part, times: 1)
    }
    var sum = CompensatedSum()
    for index in 0..<count {
      let g = upstream[index].widened
      sum.add(isLogarithmic ? g : g * (isEmpty ? 0 : scratch[index].widened))
    }
    part.share = sum.value
    return part
  }

  private static func write<T: LongElement>(
    _ x: UnsafePointer<T>, _ y: UnsafeMutablePointer<T>, _ count: Int, _ part: RowState,
    _ row: RowState
  ) {
    guard isLogarithmic else {
      T.probabilities(x, y, count, part: part, row: row, times: 1)
      return
    }
    let logSum = row.logSum
    for index in 0..<count { y[index] = T(rounding: x[index].widened - row.max - logSum) }
  }

  private static func differentiate<T: LongElement>(
    _ x: UnsafePointer<T>, _ upstream: UnsafeMutablePointer<T>?, _ y: UnsafeMutablePointer<T>,
    _ count: Int, _ part: RowState, _ row: RowState
  ) {
    T.probabilities(x, y, count, part: part, row: row, times: 1)
    for index in 0..<count {
      let g = upstream?[index].widened ?? 1
      let p = y[index].widened
      y[index] = T(rounding: isLogarithmic ? g - p * row.share : p * (g - row.share))
    }
  }
}
