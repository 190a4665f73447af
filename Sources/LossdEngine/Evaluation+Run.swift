import CLossdPlugin
import LossdTensor
import Synchronization

/// A stretch of chunks that may run at the same time: one pass, or the host's own work.
struct Stage {
  static let clearing = -1
  /// Less the index of the input.
  static let boolCheck = -2

  /// The function's pass, or one of the host's own above.
  var pass: Int
  var units: Int
  var unitsPerChunk: Int
  var chunks: Int
}

/// How work is cut. Chunks depend on plan's numbers alone, never on the machine or its load, so that
/// results are the same bits everywhere.
enum Chunking {
  /// What a chunk aims at, nanoseconds: small enough that a call behind it waits under a millisecond.
  static let chunkCost = 400_000.0
  static let chunksMax = 1 << 16
  static let clearedBytesPerChunk = 1 << 20

  static func unitsPerChunk(units: Int, unitCost: Double) -> Int {
    var count = units
    if unitCost > 0 { count = Int(min(Double(units), max(1, chunkCost / unitCost))) }
    // Many small units: whole multiples of 64, so that no two chunks write one cache line.
    if count >= 64 { count = count / 64 * 64 }
    return max(count, (units + chunksMax - 1) / chunksMax, 1)
  }
}

extension Evaluation {
  static let resultBytesMax = Int(UInt32.max)

  /// Checks the request against the declarations and asks the function for its plan. Afterwards
  /// `resultBytes`, `workspaceBytes`, `scratchBytes` and `cost` say what running it takes.
  public func makePlan() throws(StatusError) {
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
    clearPlan()
    var error = lossd_error()
    error.struct_size = UInt32(MemoryLayout<lossd_error>.size)
    let code = entry.guarded { entry.function.pointee.plan(call, plan, &error) }
    guard code == LOSSD_OK else { throw failureText(code, error) }
    try believePlan()
  }

  private func believePlan() throws(StatusError) {
    var offset = 0
    var offsets: [Int] = []
    var cleared = 0
    for index in wantedOutputs {
      let answer = planned[index]
      let name = String(cString: entry.outputs[index].name)
      guard let type = DataType(rawValue: answer.data_type), answer.rank <= UInt32(LOSSD_RANK_MAX)
      else { throw lie("planned no type or rank for \(name)") }
      let shape = shapePointer(index)
      guard
        let count = checkedElementCount(
          UnsafeBufferPointer(start: shape, count: Int(answer.rank)), byteSize: type.byteSize)
      else { throw lie("planned an impossible shape for \(name)") }
      if answer.flags & UInt32(LOSSD_PLANNED_REDUCED) != 0 {
        guard answer.rank == 0, Int(answer.value_index) < entry.valueCount, type.isFloatingPoint
        else { throw lie("planned a wrong reduced output \(name)") }
      }
      outputs[index] = lossd_tensor(
        data: nil, shape: UnsafePointer(shape), element_count: Int64(count), rank: answer.rank,
        data_type: answer.data_type)
      offset = (offset + 63) & ~63
      offsets.append(offset)
      let bytes = count * type.byteSize
      guard bytes <= Evaluation.resultBytesMax, offset + bytes <= Evaluation.resultBytesMax else {
        throw StatusError(
          .resourceExhausted,
          "\(entry.name): the results take more than \(Evaluation.resultBytesMax) bytes")
      }
      offset += bytes
      if answer.flags & UInt32(LOSSD_PLANNED_ZEROED) != 0 { cleared += bytes }
    }
    var cost = addBoolChecks()
    if cleared > 0 {
      // Clearing goes over the whole result block in pieces; outputs that need none are skipped.
      let piece = Chunking.clearedBytesPerChunk
      stages.append(
        Stage(
          pass: Stage.clearing, units: offset, unitsPerChunk: piece,
          chunks: (offset + piece - 1) / piece))
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
          pass: pass, units: units, unitsPerChunk: size, chunks: (units + size - 1) / size))
      cost += Double(units) * answer.unit_cost_ns
    }
    guard plan.pointee.rows >= 0, plan.pointee.workspace_bytes <= 1 << 46,
      plan.pointee.scratch_bytes <= 1 << 40
    else { throw lie("planned impossible amounts of memory or rows") }
    planDone(
      rows: Int(plan.pointee.rows), resultBytes: offset,
      workspaceBytes: Int(plan.pointee.workspace_bytes),
      scratchBytes: Int(plan.pointee.scratch_bytes), cost: cost, offsets: offsets)
  }

  /// A bool is 0 or 1, and nothing a client sends is believed: a stage of its own, since it reads all
  /// of the tensor. Returns its cost, nanoseconds.
  private func addBoolChecks() -> Double {
    var cost = 0.0
    for index in 0..<entry.inputs.count where inputs[index].data_type == DataType.bool.rawValue {
      let count = Int(inputs[index].element_count)
      if count == 0 { continue }
      let piece = Chunking.clearedBytesPerChunk
      stages.append(
        Stage(
          pass: Stage.boolCheck - index, units: count, unitsPerChunk: piece,
          chunks: (count + piece - 1) / piece))
      cost += Double(count) * 0.2
    }
    return cost
  }

  private func checkBools(_ index: Int, _ begin: Int, _ end: Int) throws(StatusError) {
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

  /// Gives the planned call its memory: `resultBytes` for the results, and a workspace.
  public func bind(results: UnsafeMutableRawPointer?, workspace: AlignedBuffer?) {
    for (position, index) in wantedOutputs.enumerated() {
      outputs[index].data = results.map { $0 + offsets[position] }
    }
    self.workspace = workspace
    call.pointee.workspace = workspace?.base
    accumulator.reset(fields: entry.accumulatorCount)
    accumulator.write(to: totals)
    beginStage()
  }

  /// A result's view, in the order of the request, and its offset among the results.
  public func result(_ position: Int) -> (view: TensorView, offset: Int, name: UnsafePointer<CChar>)
  {
    let index = wantedOutputs[position]
    let raw = outputs[index]
    let view = TensorView(
      data: raw.data, shape: UnsafeBufferPointer(start: raw.shape, count: Int(raw.rank)),
      count: Int(raw.element_count), dataType: DataType(rawValue: raw.data_type) ?? .float32)
    return (view, offsets[position], entry.outputs[index].name)
  }

  // MARK: - Running

  func beginStage() {
    nextChunk = 0
    outstanding = 0
    guard stage < stages.count else { return }
    prepareSums(stages[stage].chunks * entry.accumulatorCount)
  }

  /// Runs one chunk of the current stage.
  func runChunk(_ index: Int, sums: UnsafeMutablePointer<Double>, scratch: UnsafeMutableRawPointer)
    throws(StatusError)
  {
    let current = stages[stage]
    let begin = index * current.unitsPerChunk
    let end = min(begin + current.unitsPerChunk, current.units)
    if current.pass == Stage.clearing {
      clear(begin, end)
      return
    }
    if current.pass <= Stage.boolCheck {
      try checkBools(Stage.boolCheck - current.pass, begin, end)
      return
    }
    var chunk = lossd_chunk(
      struct_size: UInt32(MemoryLayout<lossd_chunk>.size), pass: UInt32(current.pass),
      begin: Int64(begin), end: Int64(end),
      accumulator: sums + index * entry.accumulatorCount, scratch: scratch)
    var error = lossd_error()
    error.struct_size = UInt32(MemoryLayout<lossd_error>.size)
    let code = entry.guarded { entry.function.pointee.run(call, &chunk, &error) }
    if code != LOSSD_OK { throw failureText(code, error) }
  }

  private func clear(_ begin: Int, _ end: Int) {
    for (position, index) in wantedOutputs.enumerated()
    where planned[index].flags & UInt32(LOSSD_PLANNED_ZEROED) != 0 {
      guard let data = outputs[index].data,
        let type = DataType(rawValue: outputs[index].data_type)
      else { continue }
      let first = offsets[position]
      let low = max(begin, first)
      let high = min(end, first + Int(outputs[index].element_count) * type.byteSize)
      if low < high {
        (data + (low - first)).initializeMemory(
          as: UInt8.self, repeating: 0, count: high - low)
      }
    }
  }

  /// Adds up the stage's sums and goes on to the next; false when there is none.
  func advanceStage() -> Bool {
    if stages[stage].pass >= 0 && entry.accumulatorCount > 0 {
      for chunk in 0..<stages[stage].chunks {
        accumulator.add(sumsBase + chunk * entry.accumulatorCount, entry)
      }
      accumulator.write(to: totals)
    }
    stage += 1
    beginStage()
    return stage < stages.count
  }

  /// Reduced outputs from the sums.
  func finishOutputs() throws(StatusError) {
    var needed = false
    for index in wantedOutputs
    where planned[index].flags & UInt32(LOSSD_PLANNED_REDUCED) != 0 { needed = true }
    guard needed else { return }
    let values = try Evaluation.values(entry, attributes: attributes, sums: totals)
    for index in wantedOutputs
    where planned[index].flags & UInt32(LOSSD_PLANNED_REDUCED) != 0 {
      guard let value = values[Int(planned[index].value_index)], let data = outputs[index].data
      else { throw lie("gave no value for \(String(cString: entry.outputs[index].name))") }
      switch DataType(rawValue: outputs[index].data_type) {
      case .float64: data.storeBytes(of: value, as: Double.self)
      case .float16: data.storeBytes(of: Float16(value), as: Float16.self)
      case .bfloat16: data.storeBytes(of: BFloat16(value), as: BFloat16.self)
      default: data.storeBytes(of: Float(value), as: Float.self)
      }
    }
  }

  /// The function's values for these sums; nil for one that does not exist.
  static func values(
    _ entry: FunctionEntry, attributes: UnsafePointer<lossd_value>, sums: UnsafePointer<Double>
  ) throws(StatusError) -> [Double?] {
    guard entry.valueCount > 0, let finish = entry.function.pointee.finish else { return [] }
    var values = [Double](repeating: 0, count: entry.valueCount)
    var present: UInt64 = 0
    var error = lossd_error()
    error.struct_size = UInt32(MemoryLayout<lossd_error>.size)
    let code = entry.guarded {
      finish(entry.function, attributes, sums, &values, &present, &error)
    }
    guard code == LOSSD_OK else { throw failureText(entry.name, code, error) }
    return values.indices.map { present & (1 << UInt64($0)) != 0 ? values[$0] : nil }
  }

  /// The values of a whole stream: what one call over all its batches would have given.
  public func summaryValues(_ total: Accumulator) throws(StatusError) -> [Double?] {
    var sums = [Double](repeating: 0, count: max(entry.accumulatorCount, 1))
    sums.withUnsafeMutableBufferPointer { buffer in
      if let base = buffer.baseAddress { total.write(to: base) }
    }
    return try Evaluation.values(entry, attributes: attributes, sums: sums)
  }

  /// Runs everything in this thread, in the same chunks as the workers would.
  public func runInline(scratch: UnsafeMutableRawPointer) throws(StatusError) {
    while stage < stages.count {
      for chunk in 0..<stages[stage].chunks {
        if let stop = reasonToStop() { throw stop }
        try runChunk(chunk, sums: sumsBase, scratch: scratch)
      }
      _ = advanceStage()
    }
    try finishOutputs()
  }

  func reasonToStop() -> StatusError? {
    if stopped.load(ordering: .relaxed) {
      return StatusError(.cancelled, "\(entry.name): cancelled")
    }
    if deadline != .max && Clock.now >= deadline {
      return StatusError(.deadlineExceeded, "\(entry.name): the deadline has passed")
    }
    return nil
  }

  private func failureText(_ code: Int32, _ error: lossd_error) -> StatusError {
    Evaluation.failureText(entry.name, code, error)
  }

  private static func failureText(
    _ name: String, _ code: Int32, _ error: lossd_error
  ) -> StatusError {
    let text = withUnsafeBytes(of: error.text) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    let status = StatusCode(rawValue: UInt32(bitPattern: code)) ?? .internal
    return StatusError(
      status == .ok ? .internal : status, "\(name): \(text.isEmpty ? "failed" : text)")
  }

  private func lie(_ text: String) -> StatusError {
    StatusError(.internal, "\(entry.name): the plugin \(entry.plugin) \(text)")
  }
}
