import CLossdPlugin
import LossdTensor
import Synchronization

extension Evaluation {
  /// Gives the planned call its memory: `resultBytes` for the results, and a workspace.
  /// RESOURCE_EXHAUSTED where there is none for its sums.
  public func bind(results: UnsafeMutableRawPointer?, workspace: AlignedBuffer?) throws(StatusError)
  {
    for (position, index) in wantedOutputs.enumerated() {
      outputs[index].data = results.map { $0 + offsets[position] }
    }
    for (position, input) in overwrites {
      outputs[wantedOutputs[position]].data = inputs[input].data
    }
    for placement in placements {
      outputs[wantedOutputs[placement.position]].data = placement.base
    }
    self.results = results
    if let results, wantedOutputs.count > 1 || entry.isForeign {
      // The memory has been others', and is sent as it lies.
      fillGaps(results, with: entry.isForeign ? Evaluation.fenceByte : 0)
    }
    if clearsAtBind { clear(0, layoutBytes) }
    self.workspace = workspace
    call.pointee.workspace = workspace?.base
    accumulator.reset(fields: entry.accumulatorCount)
    accumulator.write(to: totals)
    try beginStage()
  }

  // MARK: - Gaps and fences

  private static let fenceByte: UInt8 = 0xC5

  /// The memory before each result, and that behind the last one, up to `resultBytes`. Results
  /// elsewhere take none.
  private func eachGap(
    _ results: UnsafeMutableRawPointer, _ body: (Int, UnsafeMutableRawBufferPointer) -> Void
  ) {
    var begin = 0
    for (position, index) in wantedOutputs.enumerated() {
      let end = offsets[position]
      // In an input's place, or in memory that the request names: their offsets lie behind all
      // others.
      if end >= resultBytes { continue }
      if end > begin {
        body(position, UnsafeMutableRawBufferPointer(start: results + begin, count: end - begin))
      }
      let size = DataType(rawValue: outputs[index].data_type)?.byteSize ?? 0
      begin = end + Int(outputs[index].element_count) * size
    }
    if resultBytes > begin {
      body(
        wantedOutputs.count,
        UnsafeMutableRawBufferPointer(start: results + begin, count: resultBytes - begin))
    }
  }

  /// Writes every byte of the results' memory that belongs to no result. A single one has none
  /// beside it but fences.
  func fillGaps(_ results: UnsafeMutableRawPointer, with byte: UInt8) {
    eachGap(results) { _, gap in gap.initializeMemory(as: UInt8.self, repeating: byte) }
  }

  /// Makes the fences the zeros that gaps are sent as; INTERNAL where somebody wrote on one.
  private func checkFences() throws(StatusError) {
    guard entry.isForeign, let results else { return }
    var broken: Int?
    eachGap(results) { position, fence in
      if broken == nil, fence.contains(where: { $0 != Evaluation.fenceByte }) { broken = position }
      fence.initializeMemory(as: UInt8.self, repeating: 0)
    }
    guard let broken else { return }
    func name(_ position: Int) -> String {
      String(cString: entry.outputs[wantedOutputs[position]].name)
    }
    throw lie(
      broken < wantedOutputs.count
        ? "wrote outside of its outputs, before the begin of \(name(broken))"
        : "wrote outside of its outputs, behind the end of \(name(broken - 1))")
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

  private func beginStage() throws(StatusError) {
    nextChunk = 0
    chunkEnd = 0
    outstanding = 0
    guard stage < stages.count else { return }
    try beginStretch()
  }

  /// The next chunks of the stage become those that may run.
  private func beginStretch() throws(StatusError) {
    firstChunk = chunkEnd
    nextChunk = firstChunk
    chunkEnd = min(stages[stage].chunks, firstChunk + Chunking.stretch)
    try prepareSums((chunkEnd - firstChunk) * entry.accumulatorCount)
  }

  /// Runs one chunk of the current stretch.
  func runChunk(_ index: Int, sums: UnsafeMutablePointer<Double>, scratch: UnsafeMutableRawPointer)
    throws(StatusError)
  {
    let current = stages[stage]
    let begin = index * current.unitsPerChunk
    let end = min(begin + current.unitsPerChunk, current.units)
    let pass: Int
    switch current.work {
    case .functionPass(let number): pass = number
    case .clearResults: return clear(begin, end)
    case .copyInput(let input): return copyInput(input, begin, end)
    case .checkBools(let input): return try checkBools(input, begin, end)
    }
    var chunk = lossd_chunk(
      struct_size: UInt32(MemoryLayout<lossd_chunk>.size), pass: UInt32(pass),
      begin: Int64(begin), end: Int64(end),
      accumulator: sums + (index - firstChunk) * entry.accumulatorCount, scratch: scratch)
    var error = FunctionEntry.noError()
    let code = entry.run(call, &chunk, &error)
    if code != LOSSD_OK { throw StatusError(entry.name, code, error) }
  }

  private func clear(_ begin: Int, _ end: Int) {
    for (position, index) in wantedOutputs.enumerated()
    where isCleared(index) {
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

  /// Adds up the stretch's sums and goes on to the next, of this stage or the one behind; false
  /// when there is none.
  func advance() throws(StatusError) -> Bool {
    let isWhole = chunkEnd == stages[stage].chunks
    if case .functionPass = stages[stage].work, entry.accumulatorCount > 0 {
      try Unretained(entry).with { (entry) throws(StatusError) in
        for chunk in 0..<chunkEnd - firstChunk {
          try accumulator.add(sumsBase + chunk * entry.accumulatorCount, entry)
        }
      }
      // The totals are those of the passes before, while a pass runs.
      if isWhole { accumulator.write(to: totals) }
    }
    if !isWhole {
      try beginStretch()
      return true
    }
    stage += 1
    try beginStage()
    return stage < stages.count
  }

  /// Looks at the fences and computes the reduced outputs from the sums.
  func finishOutputs() throws(StatusError) {
    try checkFences()
    guard hasReducedOutputs else { return }
    let present = try computeValues(totals)
    for index in wantedOutputs {
      let answer = planned + index
      if answer.pointee.flags & UInt32(LOSSD_PLANNED_REDUCED) == 0 { continue }
      let place = Int(answer.pointee.value_index)
      guard present & (1 << UInt64(place)) != 0, let data = outputs[index].data
      else { throw lie("gave no value for \(String(cString: entry.outputs[index].name))") }
      let value = values[place]
      switch DataType(rawValue: outputs[index].data_type) {
      case .float64: data.storeBytes(of: value, as: Double.self)
      case .float16: data.storeBytes(of: Float16(value), as: Float16.self)
      case .bfloat16: data.storeBytes(of: BFloat16(value), as: BFloat16.self)
      default: data.storeBytes(of: Float(value), as: Float.self)
      }
    }
  }

  private var hasReducedOutputs: Bool {
    for index in wantedOutputs
    where (planned + index).pointee.flags & UInt32(LOSSD_PLANNED_REDUCED) != 0 { return true }
    return false
  }

  /// The function's values for these sums, to `values`; bit i says whether value i exists.
  private func computeValues(_ sums: UnsafePointer<Double>) throws(StatusError) -> UInt64 {
    guard entry.valueCount > 0 else { return 0 }
    var present: UInt64 = 0
    var error = FunctionEntry.noError()
    values.initialize(repeating: 0, count: entry.valueCount)
    let code = entry.finish(attributes, sums, values, &present, &error)
    guard code == LOSSD_OK else { throw StatusError(entry.name, code, error) }
    return present
  }

  /// The values of a whole stream: what one call over all its batches would have given; nil for one
  /// that does not exist.
  public func summaryValues(_ total: Accumulator) throws(StatusError) -> [Double?] {
    var sums = [Double](repeating: 0, count: max(entry.accumulatorCount, 1))
    sums.withUnsafeMutableBufferPointer { buffer in
      if let base = buffer.baseAddress { total.write(to: base) }
    }
    let present = try computeValues(sums)
    return (0..<entry.valueCount).map { present & (1 << UInt64($0)) != 0 ? values[$0] : nil }
  }

  /// Plans, and computes at once what is small enough for `small`. For the function of a library,
  /// whose plan may take its time.
  func prepare(_ small: SmallMemory, scratch: AlignedBuffer) throws(StatusError) {
    try makePlan()
    guard cost <= small.costMax, resultBytes <= small.resultBytes,
      workspaceBytes <= small.workspace.count, scratchBytes <= scratch.count
    else { return }
    try bind(results: small.results, workspace: workspaceBytes > 0 ? small.workspace : nil)
    try runInline(scratch: scratch.base)
    isComputed = true
  }

  /// Runs everything in this thread, in the same chunks as the workers would.
  public func runInline(scratch: UnsafeMutableRawPointer) throws(StatusError) {
    while stage < stages.count {
      for chunk in firstChunk..<chunkEnd {
        if let stop = reasonToStop() { throw stop }
        try runChunk(chunk, sums: sumsBase, scratch: scratch)
      }
      _ = try advance()
    }
    try finishOutputs()
  }

  /// Runs everything in this thread; `error` says how it ended.
  public func runToEnd(scratch: UnsafeMutableRawPointer) {
    do throws(StatusError) {
      try runInline(scratch: scratch)
      isComputed = true
    } catch {
      failure = (stage, 0, error)
    }
  }

  /// Why it ended badly, once its completion has been called; nil when it did well.
  public var error: StatusError? { failure?.error }

  func reasonToStop() -> StatusError? {
    if stopped.load(ordering: .relaxed) || isToldToStop {
      return StatusError(.cancelled, "\(entry.name): cancelled")
    }
    if deadline != .max && Clock.now >= deadline {
      return StatusError(.deadlineExceeded, "\(entry.name): the deadline has passed")
    }
    return nil
  }
}
