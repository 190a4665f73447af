import CLossdPlugin
import LossdTensor
import Synchronization

extension Evaluation {
  /// Gives the planned call its memory: `resultBytes` for the results, and a workspace.
  /// RESOURCE_EXHAUSTED where there is none for its sums.
  public func bind(results: UnsafeMutableRawPointer?, workspace: AlignedBuffer?) throws(StatusError)
  {
    for (position, index) in request.wantedOutputs.enumerated() {
      request.outputs[index].data = results.map { $0 + plan.offsets[position] }
    }
    for (position, input) in plan.overwrites {
      request.outputs[request.wantedOutputs[position]].data = request.inputs[input].data
    }
    for placement in request.placements {
      request.outputs[request.wantedOutputs[placement.position]].data = placement.base
    }
    progress.results = results
    if let results, request.wantedOutputs.count > 1 || entry.isForeign {
      // The memory has been others', and is sent as it lies.
      fillGaps(results, with: entry.isForeign ? Evaluation.fenceByte : 0)
    }
    if plan.clearsAtBind { clear(0, plan.layoutBytes) }
    progress.workspace = workspace
    request.call.pointee.workspace = workspace?.base
    progress.accumulator.reset(entry)
    progress.accumulator.write(to: progress.totals)
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
    for (position, index) in request.wantedOutputs.enumerated() {
      let end = plan.offsets[position]
      // In an input's place, or in memory that the request names: their offsets lie behind all
      // others.
      if end >= plan.resultBytes { continue }
      if end > begin {
        body(position, UnsafeMutableRawBufferPointer(start: results + begin, count: end - begin))
      }
      let size = DataType(rawValue: request.outputs[index].data_type)?.byteSize ?? 0
      begin = end + Int(request.outputs[index].element_count) * size
    }
    if plan.resultBytes > begin {
      body(
        request.wantedOutputs.count,
        UnsafeMutableRawBufferPointer(start: results + begin, count: plan.resultBytes - begin))
    }
  }

  /// Writes every byte of the results' memory that belongs to no result. A single one has none
  /// beside it but fences.
  func fillGaps(_ results: UnsafeMutableRawPointer, with byte: UInt8) {
    eachGap(results) { _, gap in gap.initializeMemory(as: UInt8.self, repeating: byte) }
  }

  /// Makes the fences the zeros that gaps are sent as; INTERNAL where somebody wrote on one.
  private func checkFences() throws(StatusError) {
    guard entry.isForeign, let results = progress.results else { return }
    var broken: Int?
    eachGap(results) { position, fence in
      if broken == nil, fence.contains(where: { $0 != Evaluation.fenceByte }) { broken = position }
      fence.initializeMemory(as: UInt8.self, repeating: 0)
    }
    guard let broken else { return }
    func name(_ position: Int) -> String {
      String(cString: entry.outputs[request.wantedOutputs[position]].name)
    }
    throw entry.lie(
      broken < request.wantedOutputs.count
        ? "wrote outside of its outputs, before the begin of \(name(broken))"
        : "wrote outside of its outputs, behind the end of \(name(broken - 1))")
  }

  /// A result's view, in the order of the request, and its offset among the results.
  public func result(_ position: Int) -> (view: TensorView, offset: Int, name: UnsafePointer<CChar>)
  {
    let index = request.wantedOutputs[position]
    let raw = request.outputs[index]
    let view = TensorView(
      data: raw.data, shape: UnsafeBufferPointer(start: raw.shape, count: Int(raw.rank)),
      count: Int(raw.element_count), dataType: DataType(rawValue: raw.data_type) ?? .float32)
    return (view, plan.offsets[position], entry.outputs[index].name)
  }

  // MARK: - Running

  private func beginStage() throws(StatusError) {
    progress.nextChunk = 0
    progress.chunkEnd = 0
    progress.outstanding = 0
    guard progress.stage < plan.stages.count else { return }
    try beginStretch()
  }

  /// The next chunks of the stage become those that may run.
  private func beginStretch() throws(StatusError) {
    progress.firstChunk = progress.chunkEnd
    progress.nextChunk = progress.firstChunk
    progress.chunkEnd = min(
      plan.stages[progress.stage].chunks, progress.firstChunk + Chunking.stretch)
    if entry.mergesByItself {
      try progress.prepareSums((progress.chunkEnd - progress.firstChunk) * entry.accumulatorCount)
    }
  }

  /// Runs one chunk of the current stretch, whose sums go to `sums`, but for a function that merges
  /// by itself.
  func runChunk(
    _ index: Int, sums: ChunkSums, scratch: UnsafeMutableRawPointer
  ) throws(StatusError) {
    let current = plan.stages[progress.stage]
    let begin = index * current.unitsPerChunk
    let end = min(begin + current.unitsPerChunk, current.units)
    let pass: Int
    switch current.work {
    case .functionPass(let number): pass = number
    case .clearResults: return clear(begin, end)
    case .copyInput(let input): return copyInput(input, begin, end)
    case .checkBools(let input): return try checkBools(input, begin, end)
    }
    let isOwn = entry.mergesByItself
    var error = FunctionEntry.noError()
    var kept = KeptSums(isOwn ? nil : sums.sums, entry)
    let code = withUnsafeMutablePointer(to: &kept) { kept in
      var chunk = lossd_chunk(
        struct_size: UInt32(MemoryLayout<lossd_chunk>.size), pass: UInt32(pass),
        begin: Int64(begin), end: Int64(end),
        accumulator: isOwn
          ? progress.sumsBase + (index - progress.firstChunk) * entry.accumulatorCount : sums.plain,
        scratch: scratch, sums: OpaquePointer(kept))
      return entry.run(request.call, &chunk, &error)
    }
    if code != LOSSD_OK {
      if !isOwn { sums.clear(entry) }
      throw StatusError(entry.name, code, error)
    }
    if !isOwn { sums.settle(entry) }
  }

  private func clear(_ begin: Int, _ end: Int) {
    for (position, index) in request.wantedOutputs.enumerated()
    where plan.isCleared(index, entry) {
      guard let data = request.outputs[index].data,
        let type = DataType(rawValue: request.outputs[index].data_type)
      else { continue }
      let first = plan.offsets[position]
      let low = max(begin, first)
      let high = min(end, first + Int(request.outputs[index].element_count) * type.byteSize)
      if low < high {
        (data + (low - first)).initializeMemory(
          as: UInt8.self, repeating: 0, count: high - low)
      }
    }
  }

  func copyInput(_ index: Int, _ begin: Int, _ end: Int) {
    guard let data = request.inputs[index].data,
      let copy = request.copies.first(where: { $0.input == index })
    else { return }
    (data + begin).copyMemory(from: copy.from + begin, byteCount: end - begin)
  }

  func checkBools(_ index: Int, _ begin: Int, _ end: Int) throws(StatusError) {
    guard let data = request.inputs[index].data else { return }
    let bytes = UnsafeRawBufferPointer(start: data, count: end)
    for place in begin..<end where bytes[place] > 1 {
      throw entry.invalid(
        "\(String(cString: entry.inputs[index].name))[\(place)] is the byte \(bytes[place]), "
          + "expected a bool of 0 or 1")
    }
  }

  /// Adds up the stretch's sums and goes on to the next, of this stage or the one behind; false
  /// when there is none.
  func advance() throws(StatusError) -> Bool {
    let isWhole = progress.chunkEnd == plan.stages[progress.stage].chunks
    if case .functionPass = plan.stages[progress.stage].work, entry.accumulatorCount > 0 {
      if entry.mergesByItself {
        for chunk in 0..<progress.chunkEnd - progress.firstChunk {
          try progress.accumulator.add(progress.sumsBase + chunk * entry.accumulatorCount, entry)
        }
      }
      // The totals are those of the passes before, while a pass runs.
      if isWhole { progress.accumulator.write(to: progress.totals) }
    }
    if !isWhole {
      try beginStretch()
      return true
    }
    progress.stage += 1
    try beginStage()
    return progress.stage < plan.stages.count
  }

  /// Looks at the fences and computes the reduced outputs from the sums.
  func finishOutputs() throws(StatusError) {
    try checkFences()
    guard hasReducedOutputs else { return }
    let present = try computeValues(progress.totals)
    for index in request.wantedOutputs {
      let answer = plan.planned + index
      if answer.pointee.flags & UInt32(LOSSD_PLANNED_REDUCED) == 0 { continue }
      let place = Int(answer.pointee.value_index)
      guard present & (1 << UInt64(place)) != 0, let data = request.outputs[index].data
      else { throw entry.lie("gave no value for \(String(cString: entry.outputs[index].name))") }
      let value = progress.values[place]
      switch DataType(rawValue: request.outputs[index].data_type) {
      case .float64: data.storeBytes(of: value, as: Double.self)
      case .float16: data.storeBytes(of: Float16(value), as: Float16.self)
      case .bfloat16: data.storeBytes(of: BFloat16(value), as: BFloat16.self)
      default: data.storeBytes(of: Float(value), as: Float.self)
      }
    }
  }

  private var hasReducedOutputs: Bool {
    for index in request.wantedOutputs
    where (plan.planned + index).pointee.flags & UInt32(LOSSD_PLANNED_REDUCED) != 0 { return true }
    return false
  }

  /// The function's values for these sums, to `values`; bit i says whether value i exists.
  private func computeValues(_ sums: UnsafePointer<Double>) throws(StatusError) -> UInt64 {
    guard entry.valueCount > 0 else { return 0 }
    var present: UInt64 = 0
    var error = FunctionEntry.noError()
    progress.values.initialize(repeating: 0, count: entry.valueCount)
    let code = entry.finish(request.attributes, sums, progress.values, &present, &error)
    guard code == LOSSD_OK else { throw StatusError(entry.name, code, error) }
    return present
  }

  /// The values of a whole stream: what one call over all its batches would have given; nil for one
  /// that does not exist.
  public func summaryValues(_ sums: [Double]) throws(StatusError) -> [Double?] {
    precondition(sums.count == entry.accumulatorCount)
    let present = try computeValues(sums.isEmpty ? [0] : sums)
    return (0..<entry.valueCount).map {
      present & (1 << UInt64($0)) != 0 ? progress.values[$0] : nil
    }
  }

  /// Plans, and computes at once what is small enough for `small`. For the function of a library,
  /// whose plan may take its time.
  func prepare(_ small: SmallMemory, scratch: AlignedBuffer) throws(StatusError) {
    try makePlan()
    guard plan.cost <= small.costMax, plan.resultBytes <= small.resultBytes,
      plan.workspaceBytes <= small.workspace.count, plan.scratchBytes <= scratch.count
    else { return }
    try bind(results: small.results, workspace: plan.workspaceBytes > 0 ? small.workspace : nil)
    try runInline(scratch: scratch.base)
    progress.isComputed = true
  }

  /// Runs everything in this thread, in the same chunks as the workers would.
  public func runInline(scratch: UnsafeMutableRawPointer) throws(StatusError) {
    while progress.stage < plan.stages.count {
      for chunk in progress.firstChunk..<progress.chunkEnd {
        if let stop = reasonToStop() { throw stop }
        try runChunkHere(chunk, scratch: scratch)
      }
      _ = try advance()
    }
    try finishOutputs()
  }

  /// Runs a chunk that no other runs beside: its sums are the call's at once.
  private func runChunkHere(
    _ index: Int, scratch: UnsafeMutableRawPointer
  ) throws(StatusError) {
    // A function may look at the totals meanwhile, not at these.
    var total = Accumulator()
    swap(&total, &progress.accumulator)
    defer { swap(&total, &progress.accumulator) }
    try total.withChunk(plain: progress.plain) { (sums) throws(StatusError) in
      try runChunk(index, sums: sums, scratch: scratch)
    }
  }

  /// Runs everything in this thread; `error` says how it ended.
  public func runToEnd(scratch: UnsafeMutableRawPointer) {
    do throws(StatusError) {
      try runInline(scratch: scratch)
      progress.isComputed = true
    } catch {
      progress.failure = (progress.stage, 0, error)
    }
  }
}
