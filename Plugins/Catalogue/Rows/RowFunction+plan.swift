import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

extension RowFunction {
  /// The operands of a call.
  static func operands(_ call: Call) -> InlineArray<3, TensorView?> {
    var operands = InlineArray<3, TensorView?>(repeating: nil)
    for index in 0..<places.operands { operands[index] = call.input(index) }
    return operands
  }

  /// Sets the results like operands, the way and the passes, once the function has set the rest.
  static func planRows(
    _ call: Call, _ plan: inout Plan, _ state: inout RowPlan
  ) throws(StatusError) {
    let space = state.space
    let operands = operands(call)
    var isWithoutOperand = false
    var isEmpty = true
    for index in 0..<places.operands { if operands[index]?.count ?? 0 > 0 { isEmpty = false } }
    for index in 0..<places.goals where call.wants(places.firstGoal + index) {
      let goal = goal(index)
      guard let operand = operands[goal.operand] else { continue }
      guard operand.dataType.isFloatingPoint else {
        throw invalid("\(operandName(goal.operand)) is \(operand.dataType), which has no gradient")
      }
      state.hasGoals = true
      if operands[goal.first.x] == nil { isWithoutOperand = true }
      // The sum of no repetitions is 0.
      let isNothing = space.rows == 0 || space.length == 0
      plan.setOutput(
        places.firstGoal + index, operand.dataType, shape: operand.shape, isZeroed: isNothing)
      if !isNothing && !space.space.isWhole(operand) { state.keepsFactors = true }
    }
    plan.setRows(space.rank == 0 ? 1 : space.space.shape[0])
    // Gradients are empty, and values too, or zeros of rows without elements, or nobody asks for them.
    let isUnasked =
      places.isLoss && space.length == 0 && !call.wants(places.value)
      && LossReduction(call.attributes) == .none
    if isUnasked || isEmpty && (space.rows == 0 || !places.isLoss) {
      state.keepsFactors = false
      return
    }
    choose(call, &state, isWithoutOperand: isWithoutOperand)
    let scratch = RowScratch(state)
    if space.rows > 0 || state.keepsFactors { plan.setScratch(bytes: scratch.bytes) }
    let element =
      (state.isScalar ? 25.0 : state.way == .gathered ? 8 : 0.5) * (state.hasGoals ? 3 : 1)
    let isWalked = call.wants(places.value) || state.hasGoals || places.isLoss
    if isWalked {
      let cost = 60 + broadcastCost(rank: space.rank)
      let units = state.way == .columns ? state.units.count : state.rows
      plan.addPass(
        units: units,
        unitCost: state.way == .columns
          ? state.units.cost(size: space.length, element: element, row: 20)
          : cost + element * Double(space.length))
    }
    guard state.keepsFactors else { return }
    if space.length > 0 {
      plan.setWorkspace(doubles: space.rows, times: 9)
    }
    var pass = 1
    for index in 0..<places.goals where call.wants(places.firstGoal + index) {
      let operand = goal(index).operand
      guard let tensor = operands[operand], !space.space.isWhole(tensor) else { continue }
      let own = space.isOneForRow(operand) ? 1 : space.length
      let rows = tensor.count / max(own, 1)
      let repeats = Double(space.repeats(operand))
      plan.addPass(
        units: rows,
        unitCost: 100 + repeats
          * (100 + 2 * broadcastCost(rank: space.rank) + 2 * element * Double(space.length)))
      state.passes[index] = pass
      pass += 1
    }
  }

  private static func choose(_ call: Call, _ state: inout RowPlan, isWithoutOperand: Bool) {
    let space = state.space
    let operands = operands(call)
    var isAlike = true
    var isContiguous = true
    var hasIntegers = false
    for index in 0..<space.operandCount {
      guard let operand = operands[index] else { continue }
      if operand.dataType != operands[0]?.dataType { isAlike = false }
      if !operand.dataType.isFloatingPoint { hasIntegers = true }
      if !space.isContiguous(index) { isContiguous = false }
    }
    var isNorm = false
    for index in 0..<state.pairCount where state.pairs[index].isNorm { isNorm = true }
    state.isScalar = Kernels.chosen == nil || hasIntegers || isNorm && state.norm.sum == nil
    if state.isScalar || !isAlike || isWithoutOperand || space.rows == 0 { return }
    // Repetitions of 16-bit gradients are added up before they are rounded: in tiles.
    if state.keepsFactors && operands[0]?.dataType.byteSize == 2 { return }
    if isContiguous {
      state.way = .contiguous
      state.batch = min(max(16384 / max(space.length, 1), 1), 64)
      state.segment = 1 << 16
    } else if space.isWhole && space.inner > 1 {
      state.way = .columns
      state.units = RowUnits(rows: space.rows, size: space.length, inner: space.inner)
      state.batch = SummedRows.columnsMax
      state.segment = 1 << 10
    }
  }

  private static func operandName(_ index: Int) -> String { declaration.inputs[index].name }
}

/// Where a batch of rows keeps its numbers: arrays of `room`.
struct RowScratch {
  let room: Int
  let hasTiles: Bool
  let hasColumns: Bool

  init(_ state: RowPlan) {
    room = state.room
    hasTiles = (state.way == .gathered || state.keepsFactors) && state.space.length > 0
    hasColumns = state.way == .columns
  }

  private var doubles: Int { (9 + 3 + 6) * room }
  /// Sums of segments, and their compensation.
  private var totals: Int { 9 * room * MemoryLayout<CompensatedSum>.stride }
  private var numbers: Int { (doubles * 8 + totals + 63) / 64 * 64 }
  /// An operand each, and the result; then sums of results and what they have rounded away.
  private static let tiles = 6

  var bytes: Int {
    numbers + (hasColumns ? SummedRows.scratchBytes : 0)
      + (hasTiles ? RowScratch.tiles * RowPlan.tileElements * Tiles.elementBytes : 0)
  }

  /// Sum `kind` of pair `pair`, of each row.
  @inline(__always)
  func sums(_ base: UnsafeMutableRawPointer, _ pair: Int, _ kind: Int = 0) -> UnsafeMutablePointer<
    Double
  > { base.assumingMemoryBound(to: Double.self) + (3 * pair + kind) * room }

  @inline(__always)
  func ties(_ base: UnsafeMutableRawPointer, _ pair: Int) -> UnsafeMutablePointer<Double> {
    base.assumingMemoryBound(to: Double.self) + (9 + pair) * room
  }

  /// Of goal `index / 2`.
  @inline(__always)
  func factors(_ base: UnsafeMutableRawPointer, _ index: Int) -> UnsafeMutablePointer<Double> {
    base.assumingMemoryBound(to: Double.self) + (12 + index) * room
  }

  @inline(__always)
  func totals(_ base: UnsafeMutableRawPointer) -> UnsafeMutablePointer<CompensatedSum> {
    (base + doubles * 8).assumingMemoryBound(to: CompensatedSum.self)
  }

  /// Scratch of the kernels for rows across memory.
  @inline(__always)
  func columns(_ base: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer { base + numbers }

  @inline(__always)
  func tile(_ base: UnsafeMutableRawPointer, _ index: Int) -> UnsafeMutableRawPointer {
    base + numbers + (hasColumns ? SummedRows.scratchBytes : 0)
      + index * RowPlan.tileElements * Tiles.elementBytes
  }
}
