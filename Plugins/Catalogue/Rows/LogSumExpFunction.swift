import Glibc
import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// log(sum(exp(x))) along `dim`, without overflow; torch.logsumexp. The kernels compute it as x_0 and the cross entropy of
/// class 0. Rows too long for them, and integers, are cut as softmax's are: a pass over the parts, one that merges them, one
/// for the gradient; a row of one part takes a single pass.
enum LogSumExpFunction: Function {
  struct State: BitwiseCopyable {
    var size = 0
    var rows = 0
    /// How rows are cut that the kernels take whole; nil: they do not.
    var units: RowUnits?
    /// nil where there are no elements.
    var long: LongLayout?
    var isDouble = false
  }

  private static let (dim, keepdim) = (0, 1)

  static var declaration: FunctionDeclaration {
    FunctionDeclaration(
      name: "logsumexp", kind: .activation, summary: "log(sum(exp(input))) along dim",
      inputs: [
        InputDeclaration(
          "input", DataType.allCases, isRequired: true, batching: .rows, help: "any shape"),
        InputDeclaration(
          "grad.output", floatTypes, batching: .rows, help: "upstream gradient, like output"),
      ],
      outputs: [
        OutputDeclaration("output", isDefault: true, hasRows: true, help: "one a row"),
        OutputDeclaration("grad.input", hasRows: true, help: "gradient with respect to input"),
      ],
      attributes: [.dimension(nil, help: "the dimension that is added up"), .keepdim])
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
    guard let input = call.input(ActivationPlaces.input) else { throw invalid("no input") }
    let layout = try RowLayout(input.shape, dim: call.attributes.int(dim))
    let type = floatType(input.dataType)
    if call.wants(ActivationPlaces.gradient) {
      guard input.dataType.isFloatingPoint else {
        throw invalid("input is \(input.dataType), which has no gradient")
      }
      plan.setOutput(ActivationPlaces.gradient, type, shape: input.shape)
    }
    let space = try RowSpace([input, nil, nil], ["input", "", ""], dim: call.attributes.int(dim))
    try space.resultShape(keepdim: call.attributes.bool(keepdim)) { shape throws(StatusError) in
      try checkUpstream(call.input(ActivationPlaces.upstream), "grad.output", type, shape)
      if call.wants(ActivationPlaces.output) {
        plan.setOutput(ActivationPlaces.output, type, shape: shape)
      }
    }
    plan.setRows(input.rank == 0 ? 1 : input.size(0))
    var state = State(size: layout.size, rows: layout.rows)
    state.isDouble = input.dataType == .float64 || !input.dataType.isFloatingPoint
    guard input.count > 0 else {
      if call.wants(ActivationPlaces.output) { plan.addPass(units: layout.rows, unitCost: 2) }
      return state
    }
    if isVector(input, layout) {
      let units = RowUnits(rows: layout.rows, size: layout.size, inner: layout.inner)
      state.units = units
      plan.setScratch(
        bytes: ClassBlock.headBytes
          + StridedRows.scratchBytes(
            size: layout.size, isContiguous: layout.inner == 1,
            isDouble: input.dataType == .float64))
      plan.addPass(
        units: units.count,
        unitCost: units.cost(
          size: layout.size, element: call.wants(ActivationPlaces.gradient) ? 2 : 1, row: 20))
      return state
    }
    let long = LongLayout(rows: layout.rows, size: layout.size, inner: layout.inner)
    state.long = long
    let cost = (state.isDouble ? 20.0 : 3) * Double(min(long.length, long.size) * long.width)
    let gradient = call.wants(ActivationPlaces.gradient) ? 2 * cost : 0
    plan.setScratch(bytes: 2 * LongLayout.blockElements * MemoryLayout<Double>.stride)
    if long.blocks == 1 {
      plan.addPass(units: long.blockUnits, unitCost: 60 + cost + gradient)
      return state
    }
    plan.setWorkspace(bytes: long.workspaceBytes)
    plan.addPass(units: long.blockUnits, unitCost: 60 + cost)
    plan.addPass(units: long.mergeUnits, unitCost: 25 * Double(long.blocks * long.width))
    if call.wants(ActivationPlaces.gradient) {
      plan.addPass(units: long.blockUnits, unitCost: 60 + gradient)
    }
    return state
  }

  private static func isVector(_ input: TensorView, _ layout: RowLayout) -> Bool {
    Kernels.chosen != nil && input.dataType.isFloatingPoint
      && layout.size <= LongLayout.rowMax(isVector: true)
  }

  static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {
    if let units = state.units, let build = Kernels.chosen {
      return try runVector(build, call, units, chunk)
    }
    guard let long = state.long else {
      // Rows without elements, if there are rows.
      guard state.size == 0, let output = call.output(ActivationPlaces.output) else { return }
      for row in chunk.range { output[row] = -.infinity }
      return
    }
    if chunk.pass == 1 {
      for unit in chunk.range { try merge(call, long, unit) }
    } else if state.isDouble {
      runBlocks(Double.self, call, long, chunk)
    } else {
      runBlocks(Float.self, call, long, chunk)
    }
  }

  private static func runVector(
    _ build: KernelBuild, _ call: Call, _ units: RowUnits, _ chunk: Chunk
  ) throws(StatusError) {
    guard let input = call.input(ActivationPlaces.input) else { return }
    let layout = try RowLayout(input.shape, dim: call.attributes.int(dim))
    let (tiles, gradient) = (Tiles(build, input), call.output(ActivationPlaces.gradient))
    var block = ClassBlock(chunk.scratch)
    try units.eachRun(chunk.range, limit: ClassBlock.positions) { first, count in
      block.setAll(count)
      if let upstream = call.input(ActivationPlaces.upstream) { block.setScales(upstream, first) }
      let start = layout.start(first)
      var rows = RowCall(
        .crossEntropy, x: tiles.direct(input, start),
        gradient: gradient.map { tiles.direct($0, start) },
        rows: units.layout(count, size: layout.size),
        classes: RowClasses(
          labels: block.labels, scales: UnsafePointer(block.scales), losses: block.losses),
        scratch: block.kernelScratch,
        isStreamed: Streaming.isWorthwhile(input.count, input.dataType))
      tiles.kernels.rows(&rows)
      for index in 0..<count {
        let (row, l, g) = (layout.start(first + index), block.losses[index], block.scale(index))
        if tiles.isExtreme(l) || gradient != nil && tiles.isExtreme(g) {
          settle(call, input, layout, first + index, g)
          continue
        }
        call.output(ActivationPlaces.output)?[first + index] = input[row] + l
        // The kernel's p - 1 has lost digits.
        gradient?[row] = g * exp(-l)
      }
    }
    if gradient != nil { tiles.kernels.settle() }
  }

  /// A row in float64.
  private static func settle(
    _ call: Call, _ input: TensorView, _ layout: RowLayout, _ row: Int, _ g: Double
  ) {
    let start = layout.start(row)
    let sums = LogSumExp(count: layout.size) { input[start + $0 * layout.inner] }
    // One infinity makes the sum NaN, as softmax has it.
    let value = sums.max.isFinite ? -sums.logProbability(0) : sums.max
    call.output(ActivationPlaces.output)?[row] = value
    guard let gradient = call.output(ActivationPlaces.gradient) else { return }
    for index in 0..<layout.size {
      let place = start + index * layout.inner
      let x = input[place]
      gradient[place] = g * (value.isFinite ? sums.probability(x) : exp(x - value))
    }
  }

  private static func runBlocks<T: LongElement>(
    _ type: T.Type, _ call: Call, _ long: LongLayout, _ chunk: Chunk
  ) {
    guard let input = call.input(ActivationPlaces.input) else { return }
    let scratch = chunk.scratch.assumingMemoryBound(to: T.self)
    let (isCut, gradient) = (long.blocks > 1, call.output(ActivationPlaces.gradient))
    for unit in chunk.range {
      let block = long.block(unit)
      let x = LongTile(reading: input, block, type: T.dataType, scratch: scratch)
      let y = gradient.map {
        LongTile(writing: $0, block, scratch: scratch + LongLayout.blockElements)
      }
      for column in 0..<block.columns {
        let row = block.row + column
        if isCut && chunk.pass == 0 {
          long.states(call.workspace)[block.state + column] = measure(
            x.column(column), block.length)
          continue
        }
        let part =
          isCut
          ? long.states(call.workspace)[block.state + column]
          : measure(x.column(column), block.length)
        let whole = isCut ? long.rowStates(call.workspace)[row] : part
        if !isCut { call.output(ActivationPlaces.output)?[row] = value(whole) }
        if let y {
          let g = call.input(ActivationPlaces.upstream).map { $0[row] } ?? 1
          differentiate(x.column(column), y.column(column), block.length, part, whole, g)
        }
      }
      if let y, let gradient, !isCut || chunk.pass > 0 { y.commit(gradient, block) }
    }
  }

  /// The state of a part, with what an infinity or NaN in it makes of the row as its `loss`.
  private static func measure<T: LongElement>(
    _ x: UnsafePointer<T>, _ count: Int
  ) -> RowState {
    var state = T.state(x, count)
    guard state.rest.isNaN else { return state }
    state.loss = .infinity
    for index in 0..<count where x[index].widened.isNaN { state.loss = .nan }
    return state
  }

  private static func merge(_ call: Call, _ long: LongLayout, _ unit: Int) throws(StatusError) {
    try long.merge(unit, call, sharesAreScaled: false)
    let block = long.block(unit * long.blocks)
    let (parts, rows) = (long.states(call.workspace), long.rowStates(call.workspace))
    for column in 0..<block.columns {
      if long.blocks > 1 << 10 { try call.checkCancelled() }
      var loss = 0.0
      for index in 0..<long.blocks {
        loss += parts[block.state + index * long.width + column].loss
      }
      let row = block.row + column
      rows[row].loss = loss
      call.output(ActivationPlaces.output)?[row] = value(rows[row])
    }
  }

  private static func value(_ row: RowState) -> Double {
    if row.loss != 0 { return row.loss }
    return row.max == -.infinity ? -.infinity : row.max + row.logSum
  }

  /// g exp(x - value), in torch's operations where the value is no number.
  private static func differentiate<T: LongElement>(
    _ x: UnsafePointer<T>, _ y: UnsafeMutablePointer<T>, _ count: Int, _ part: RowState,
    _ row: RowState, _ g: Double
  ) {
    let value = value(row)
    guard value.isFinite else {
      for index in 0..<count { y[index] = T(rounding: g * exp(x[index].widened - value)) }
      return
    }
    // A part of nothing but -inf.
    if part.max == -.infinity && g.isFinite {
      for index in 0..<count { y[index] = T(rounding: 0) }
      return
    }
    T.probabilities(x, y, count, part: part, row: row, times: g)
  }
}
