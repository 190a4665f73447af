import CLossdPlugin
import LossdTensor

/// Chunks that depend on none of each other: one pass, or the host's own work.
struct Stage {
  enum Work {
    /// The host copies an input, in bytes, before anything looks at it.
    case copyInput(Int)
    /// The host checks that an input's bools are 0 or 1.
    case checkBools(Int)
    /// The host clears the results, in bytes.
    case clearResults
    /// The function's pass of this number, in its units.
    case functionPass(Int)
  }

  var work: Work
  var units: Int
  var unitsPerChunk: Int
  var chunks: Int
}

/// How work is cut. Chunks depend on plan's numbers alone, never on the machine or its load, so
/// that results are the same bits everywhere.
enum Chunking {
  /// What a chunk aims at, nanoseconds: small enough that a call behind it waits under a
  /// millisecond.
  static let chunkCost = 400_000.0
  /// A unit counts as this much at least, nanoseconds: a plan that calls its units free does not
  /// make one endless chunk.
  static let unitCostMin = 0.01
  /// Chunks that run before their sums are added to those before: the memory for sums is bounded,
  /// and a chunk's length need not be. They are added in the order of the chunks, so that the bits
  /// of a sum do not depend on this number.
  static let stretch = 1 << 12
  static let clearedBytesPerChunk = 1 << 20
  /// So few are not worth a stage of their own.
  static let clearedAtOnceMax = 1 << 14

  static func unitsPerChunk(units: Int, unitCost: Double) -> Int {
    // At most 4e7: the quotient is a number that an Int holds.
    var count = min(units, Int(max(1, chunkCost / max(unitCost, unitCostMin))))
    // Many small units: whole multiples of 64, so that no two chunks write one cache line.
    if count >= 64 { count = count / 64 * 64 }
    return max(count, 1)
  }

  /// How many chunks so many units make.
  static func chunks(_ units: Int, _ unitsPerChunk: Int) -> Int {
    units / unitsPerChunk + (units % unitsPerChunk == 0 ? 0 : 1)
  }
}

extension Evaluation {
  static let resultBytesMax = Int(UInt32.max)
  /// Between, before and behind the results of a library's function: what is written there is
  /// noticed.
  static let fenceBytes = 64

  /// Checks the request against the declarations and asks the function for its plan. Afterwards
  /// `resultBytes`, `workspaceBytes`, `scratchBytes` and `cost` say what running it takes.
  public func makePlan() throws(StatusError) {
    try checkRequired()
    clearPlan()
    var error = FunctionEntry.noError()
    let code = entry.plan(call, plan, &error)
    guard code == LOSSD_OK else { throw StatusError(entry.name, code, error) }
    try believePlan()
  }

  /// INVALID_ARGUMENT where an input or attribute that must be there is not, or an input has too
  /// many dimensions.
  public func checkRequired() throws(StatusError) {
    for index in 0..<entry.inputs.count where inputs[index].rank > UInt32(LOSSD_RANK_MAX) {
      throw invalid(
        "\(String(cString: entry.inputs[index].name)) has \(inputs[index].rank) dimensions, over "
          + "the limit of \(LOSSD_RANK_MAX)")
    }
    for index in 0..<entry.inputs.count
    where entry.inputs[index].flags & UInt32(LOSSD_INPUT_REQUIRED) != 0 && !hasInput(index) {
      throw invalid("the input `\(String(cString: entry.inputs[index].name))` is missing")
    }
    for index in 0..<entry.attributes.count
    where entry.attributes[index].flags & UInt32(LOSSD_ATTRIBUTE_REQUIRED) != 0
      && attributes[index].kind == 0
    {
      throw invalid("the attribute `\(String(cString: entry.attributes[index].name))` is missing")
    }
  }

  private func believePlan() throws(StatusError) {
    let cleared = try layOutResults()
    var cost = addCopies() + addBoolChecks()
    clearsAtBind = cleared > 0 && layoutBytes <= Chunking.clearedAtOnceMax
    if cleared > 0 && !clearsAtBind {
      // Clearing goes over all results in pieces; outputs that need none are skipped.
      let piece = Chunking.clearedBytesPerChunk
      stages.append(
        Stage(
          work: .clearResults, units: layoutBytes, unitsPerChunk: piece,
          chunks: Chunking.chunks(layoutBytes, piece)))
      cost += Double(cleared) * 0.1
    }
    guard plan.pointee.pass_count <= UInt32(LOSSD_PASSES_MAX) else {
      throw lie("planned \(plan.pointee.pass_count) passes")
    }
    for pass in 0..<Int(plan.pointee.pass_count) {
      let answer = plannedPass(pass)
      guard answer.units >= 0, answer.unit_cost_ns.isFinite, answer.unit_cost_ns >= 0 else {
        throw lie("planned \(answer.units) units of \(answer.unit_cost_ns) ns")
      }
      let units = Int(answer.units)
      if units == 0 { continue }
      let size = Chunking.unitsPerChunk(units: units, unitCost: answer.unit_cost_ns)
      stages.append(
        Stage(
          work: .functionPass(pass), units: units, unitsPerChunk: size,
          chunks: Chunking.chunks(units, size)))
      // 2^62 units of nothing are no plan either: each costs a nanosecond at least.
      cost += Double(units) * max(answer.unit_cost_ns, 1)
    }
    // size_t is imported as a signed number.
    let bounds = PlanBounds(
      rows: plan.pointee.rows,
      workspaceBytes: UInt64(UInt(bitPattern: plan.pointee.workspace_bytes)),
      scratchBytes: UInt64(UInt(bitPattern: plan.pointee.scratch_bytes)), cost: cost)
    try accept(bounds)
  }

  /// Checks the outputs that were planned and gives each its place. Returns how many bytes are to
  /// be cleared.
  func layOutResults() throws(StatusError) -> Int {
    let fence = entry.isForeign ? Evaluation.fenceBytes : 0
    var offset = 0
    var cleared = 0
    for (position, index) in wantedOutputs.enumerated() {
      let answer = (planned + index).pointee.header
      var name: String { String(cString: entry.outputs[index].name) }
      guard let type = DataType(rawValue: answer.data_type), answer.rank <= UInt32(LOSSD_RANK_MAX)
      else { throw lie("planned no type or rank for \(name)") }
      let shape = shapePointer(index)
      let sizes = UnsafeBufferPointer(start: shape, count: Int(answer.rank))
      guard let count = checkedElementCount(sizes, byteSize: type.byteSize) else {
        throw impossibleShape(name, type, sizes)
      }
      if answer.flags & UInt32(LOSSD_PLANNED_REDUCED) != 0 {
        guard answer.rank == 0, Int(answer.value_index) < entry.valueCount, type.isFloatingPoint
        else { throw lie("planned a wrong reduced output \(name)") }
      }
      outputs[index] = lossd_tensor(
        data: nil, shape: UnsafePointer(shape), element_count: Int64(count), rank: answer.rank,
        data_type: answer.data_type)
      let bytes = count * type.byteSize
      if let placement = placements.first(where: { $0.position == position }) {
        guard placement.count == bytes else {
          throw invalid(
            "\(name): the place for it has \(placement.count) bytes, the result has \(bytes)")
        }
        appendOffset(0)
        if isCleared(index) { cleared += bytes }
        continue
      }
      if let input = overwritable(index, type) {
        appendOverwrite(position, input)
        appendOffset(0)
        continue
      }
      offset = (offset + fence + 63) & ~63
      appendOffset(offset)
      guard bytes <= Evaluation.resultBytesMax, offset + bytes <= Evaluation.resultBytesMax else {
        throw StatusError(
          .resourceExhausted,
          "\(entry.name): the results take more than \(Evaluation.resultBytesMax) bytes")
      }
      offset += bytes
      if isCleared(index) { cleared += bytes }
    }
    let resultBytes = offset + fence
    // Behind the results' memory, as the response's payload has them.
    for (position, input) in overwrites {
      offset = (offset + 63) & ~63
      setOffset(position, offset)
      offset += byteCount(inputs[input])
      guard offset <= Evaluation.resultBytesMax else {
        throw StatusError(
          .resourceExhausted,
          "\(entry.name): the results take more than \(Evaluation.resultBytesMax) bytes")
      }
    }
    let payloadBytes = offset
    // Nobody's payload, but clearing counts through them.
    for placement in placements {
      offset = (offset + 63) & ~63
      setOffset(placement.position, offset)
      offset += placement.count
    }
    setResultBytes(sent: payloadBytes, all: resultBytes, layout: offset)
    return cleared
  }

  /// The input whose place an output takes: where the function declares it safe, the input is this
  /// call's alone and of the output's very type and shape, and no other output has taken it.
  private func overwritable(_ index: Int, _ type: DataType) -> Int? {
    let input = Int(entry.outputs[index].may_overwrite)
    guard input >= 0, ownInputs & (1 << UInt64(input)) != 0,
      (planned + index).pointee.flags
        & UInt32(LOSSD_PLANNED_ZEROED | LOSSD_PLANNED_REDUCED | LOSSD_PLANNED_SEPARATE) == 0,
      inputs[input].data_type == type.rawValue, inputs[input].rank == outputs[index].rank,
      !overwrites.contains(where: { $0.input == input })
    else { return nil }
    for dimension in 0..<Int(outputs[index].rank)
    where inputs[input].shape[dimension] != outputs[index].shape[dimension] { return nil }
    return input
  }

  private func byteCount(_ tensor: lossd_tensor) -> Int {
    Int(tensor.element_count) * (DataType(rawValue: tensor.data_type)?.byteSize ?? 0)
  }

  /// Whether the host clears this output before any chunk runs: where the plan says so, and for a
  /// library's function always, so that what it leaves unwritten is nobody else's data.
  func isCleared(_ index: Int) -> Bool {
    entry.isForeign || (planned + index).pointee.flags & UInt32(LOSSD_PLANNED_ZEROED) != 0
  }

  /// Reads once what may change at any time. Returns its cost, nanoseconds.
  private func addCopies() -> Double {
    var cost = 0.0
    for (index, _) in copies {
      let count = byteCount(inputs[index])
      if count == 0 { continue }
      let piece = Chunking.clearedBytesPerChunk
      stages.append(
        Stage(
          work: .copyInput(index), units: count, unitsPerChunk: piece,
          chunks: Chunking.chunks(count, piece)))
      cost += Double(count) * 0.1
    }
    return cost
  }

  func copyInput(_ index: Int, _ begin: Int, _ end: Int) {
    guard let data = inputs[index].data, let copy = copies.first(where: { $0.input == index })
    else { return }
    (data + begin).copyMemory(from: copy.from + begin, byteCount: end - begin)
  }

  /// A bool is 0 or 1, and nothing a client sends is believed: a stage of its own, since it reads
  /// all of the tensor. Returns its cost, nanoseconds.
  private func addBoolChecks() -> Double {
    var cost = 0.0
    for index in 0..<entry.inputs.count where inputs[index].data_type == DataType.bool.rawValue {
      let count = Int(inputs[index].element_count)
      if count == 0 { continue }
      let piece = Chunking.clearedBytesPerChunk
      stages.append(
        Stage(
          work: .checkBools(index), units: count, unitsPerChunk: piece,
          chunks: Chunking.chunks(count, piece)))
      cost += Double(count) * 0.2
    }
    return cost
  }

  func checkBools(_ index: Int, _ begin: Int, _ end: Int) throws(StatusError) {
    guard let data = inputs[index].data else { return }
    let bytes = UnsafeRawBufferPointer(start: data, count: end)
    for place in begin..<end where bytes[place] > 1 {
      throw invalid(
        "\(String(cString: entry.inputs[index].name))[\(place)] is the byte \(bytes[place]), "
          + "expected a bool of 0 or 1")
    }
  }

  private func shapePointer(_ index: Int) -> UnsafePointer<Int64> {
    let offset = MemoryLayout<lossd_planned_output>.offset(of: \.shape) ?? 16
    return UnsafeRawPointer(planned + index).advanced(by: offset)
      .assumingMemoryBound(to: Int64.self)
  }

  private func plannedPass(_ pass: Int) -> lossd_planned_pass {
    withUnsafeBytes(of: plan.pointee.passes) {
      $0.load(
        fromByteOffset: pass * MemoryLayout<lossd_planned_pass>.stride, as: lossd_planned_pass.self)
    }
  }

}

extension lossd_planned_output {
  /// All but the shape, which is half a kilobyte.
  fileprivate var header: (data_type: UInt32, rank: UInt32, flags: UInt32, value_index: UInt32) {
    @inline(__always) get { (data_type, rank, flags, value_index) }
  }
}
