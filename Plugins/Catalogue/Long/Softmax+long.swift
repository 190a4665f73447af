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
    plan.setScratch(bytes: 2 * LongLayout.blockElements * bytes)
  }

  static func runLong(_ call: Call, _ state: SoftmaxState, _ long: LongLayout, _ chunk: Chunk) {
    if chunk.pass == 1 {
      for unit in chunk.range {
        long.merge(unit, call.workspace, sharesAreScaled: !isLogarithmic)
      }
    } else if state.type == .float64 {
      runBlocks(Double.self, call, state, long, chunk)
    } else {
      runBlocks(Float.self, call, state, long, chunk)
    }
  }

  private static func runBlocks<T: LongElement>(
    _ type: T.Type, _ call: Call, _ state: SoftmaxState, _ long: LongLayout, _ chunk: Chunk
  ) {
    guard let input = call.input(0) else { return }
    let scratch = chunk.scratch.assumingMemoryBound(to: T.self)
    for unit in chunk.range {
      let block = long.block(unit)
      let x = LongTile(input, block, type: state.type, scratch: scratch)
      if chunk.pass == 0 {
        measure(call, long, block, x, scratch + LongLayout.blockElements)
      } else {
        write(call, long, block, x, scratch + LongLayout.blockElements)
      }
    }
  }

  private static func measure<T: LongElement>(
    _ call: Call, _ long: LongLayout, _ block: LongBlock, _ x: LongTile<T>,
    _ scratch: UnsafeMutablePointer<T>
  ) {
    let states = long.states(call.workspace) + block.state
    for column in 0..<block.columns {
      states[column] = T.state(x.column(column), block.length)
      guard call.wants(1) else { continue }
      guard let upstream = call.input(1) else {
        states[column].share = isLogarithmic ? Double(block.length) : 1
        continue
      }
      let part = states[column]
      let isEmpty = part.max == -.infinity
      if !isLogarithmic && !isEmpty {
        T.probabilities(x.column(column), scratch, block.length, part: part, row: part)
      }
      var sum = CompensatedSum()
      for index in 0..<block.length {
        let g = upstream[block.place(column, index)]
        sum.add(isLogarithmic ? g : g * (isEmpty ? 0 : scratch[index].widened))
      }
      states[column].share = sum.value
    }
  }

  private static func write<T: LongElement>(
    _ call: Call, _ long: LongLayout, _ block: LongBlock, _ x: LongTile<T>,
    _ scratch: UnsafeMutablePointer<T>
  ) {
    let parts = long.states(call.workspace) + block.state
    let rows = long.rowStates(call.workspace) + block.row
    let (output, gradient, upstream) = (call.output(0), call.output(1), call.input(1))
    for column in 0..<block.columns {
      let row = rows[column]
      let x = x.column(column)
      if !isLogarithmic || gradient != nil {
        T.probabilities(x, scratch, block.length, part: parts[column], row: row)
      }
      if let output {
        let logSum = row.logSum
        for index in 0..<block.length {
          output[block.place(column, index)] =
            isLogarithmic ? x[index].widened - row.max - logSum : scratch[index].widened
        }
      }
      guard let gradient else { continue }
      for index in 0..<block.length {
        let g = upstream.map { $0[block.place(column, index)] } ?? 1
        let p = scratch[index].widened
        gradient[block.place(column, index)] =
          isLogarithmic ? g - p * row.share : p * (g - row.share)
      }
    }
  }
}
