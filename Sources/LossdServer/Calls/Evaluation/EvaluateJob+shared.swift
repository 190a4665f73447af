import LossdEngine
import LossdPluginHost
import LossdTensor
import LossdWire

// Tensors in the client's own memory. The client can write there at any time, so that what serves
// as an index or a bound is copied once and then looked at: all integers and bools. Floating-point
// elements are read where they lie, and what they come to is the client's own affair. Only workers
// read or write there: the client can have its pages swapped out, and whoever touches them then
// waits for the disk.
extension EvaluateJob {
  // MARK: - Inputs

  func setShared(
    _ input: TensorMessage, _ range: SharedRange, _ call: Call
  ) throws(StatusError) {
    guard let evaluation else { return }
    let layout = try input.layout()
    let region = try named(input.displayName) { () throws(StatusError) in
      try call.region(range.region)
    }
    try validateRange(
      input.displayName, offset: range.offset, length: range.length, payloadLength: region.count,
      elementCount: layout.count, byteSize: layout.dataType.byteSize, place: "region")
    last.forget()
    let entry = evaluation.entry
    guard let index = entry.input(named: input.name) else {
      // Says which there are.
      return try evaluation.request.setInput(
        input.name,
        TensorView(data: nil, shape: layout.shape, count: 0, dataType: layout.dataType))
    }
    let source = region.base + Int(range.offset)
    func view(_ data: UnsafeMutableRawPointer?) -> TensorView {
      TensorView(
        data: layout.count == 0 ? nil : data, shape: layout.shape, count: layout.count,
        dataType: layout.dataType)
    }
    shared.use(region)
    if layout.count == 0 || entry.isKept(index) && call.method.isStreaming {
      // One that stays is copied anyway.
      return try evaluation.request.setInput(index, view(source))
    }
    if entry.isElsewhere {
      shared.copies.append(
        SharedTensors.Copy(input: index, from: source, count: layout.byteCount))
      return try evaluation.request.setInput(index, view(source))
    }
    if layout.dataType.isFloatingPoint {
      return try evaluation.request.setInput(index, view(source))
    }
    let copy = try sharedCopy(layout.byteCount, call)
    try evaluation.request.setInput(index, view(copy), copiedFrom: source)
  }

  private func sharedCopy(_ bytes: Int, _ call: Call) throws(StatusError) -> UnsafeMutableRawPointer
  {
    if let shortage = call.account.reserve(bytes) {
      throw StatusError(
        .resourceExhausted,
        "no memory now for a copy of \(bytes) bytes of shared memory: \(shortage.text)")
    }
    do throws(StatusError) {
      let buffer = try PayloadBuffer(reserved: bytes, call.account, call.context.pool)
      shared.buffers.append(buffer)
      return buffer.base
    } catch {
      call.account.release(bytes)
      throw error
    }
  }

  private func named<Result>(
    _ name: String, _ body: () throws(StatusError) -> Result
  ) throws(StatusError) -> Result {
    do throws(StatusError) { return try body() } catch {
      throw StatusError(error.code, "\(name): \(error.message)")
    }
  }

  // MARK: - Results

  /// Notes where the result at this place of the request goes.
  func place(
    _ position: Int, _ name: String, _ range: SharedRange, _ call: Call
  ) throws(StatusError) {
    guard let evaluation, let request else { return }
    let region = try named("\(name): into") { () throws(StatusError) in
      try call.region(range.region)
    }
    guard range.offset % 64 == 0, range.offset <= UInt64(region.count),
      range.length <= UInt64(region.count) - range.offset
    else {
      throw StatusError(
        .invalidArgument,
        "\(name): into: offset \(range.offset) and length \(range.length) are not a range of the "
          + "region's \(region.count) bytes at a multiple of 64")
    }
    try checkOverlaps(name, range, request)
    shared.use(region)
    last.forget()
    let place = SharedTensors.Place(
      position: position, region: region, offset: Int(range.offset), count: Int(range.length))
    shared.places.append(place)
    // A library's function does not get to see the client's memory.
    if !evaluation.entry.isForeign {
      evaluation.request.place(position, at: place.base, count: place.count)
    }
  }

  private func checkOverlaps(
    _ name: String, _ range: SharedRange, _ request: EvaluateRequestMessage
  ) throws(StatusError) {
    func overlaps(_ region: UInt64, _ offset: UInt64, _ length: UInt64) -> Bool {
      // Neither has wrapped around: the one is within its region, the other is compared by
      // differences.
      region == range.region
        && (offset < range.offset
          ? range.offset - offset < length : offset - range.offset < range.length)
        && length > 0 && range.length > 0
    }
    for index in 0..<request.inputCount {
      if case .shared(let region, let offset, let length) = request.input(index).storage,
        overlaps(region, offset, length)
      {
        throw StatusError(
          .invalidArgument, "\(name): into overlaps the input \(request.input(index).displayName)")
      }
    }
    for place in shared.places
    where overlaps(place.region.id, UInt64(place.offset), UInt64(place.count)) {
      throw StatusError(.invalidArgument, "\(name): into overlaps that of another output")
    }
  }

  // MARK: - Copies for plugins

  /// Whether a worker has to copy inputs before a process can have them: those in regions, and
  /// those that lie in no memory which a process can be shown, where they are more than goes with
  /// an order.
  func findCopiesIn() -> Bool {
    guard let evaluation, evaluation.entry.isElsewhere else { return false }
    var shown = kept.compactMap { input in input.segment.map { ($0.base, input.view.byteCount) } }
    if let segment = payload?.segment { shown.append((segment.base, payloadBytes)) }
    var loose: [SharedTensors.Copy] = []
    var bytes = 0
    for index in 0..<evaluation.entry.inputs.count {
      guard let view = evaluation.request.inputView(index), let data = view.data,
        view.byteCount > 0,
        !shared.copies.contains(where: { $0.input == index }),
        !shown.contains(where: { data >= $0.0 && data - $0.0 + view.byteCount <= $0.1 })
      else { continue }
      loose.append(SharedTensors.Copy(input: index, from: data, count: view.byteCount))
      bytes += TensorLayout.align64(view.byteCount)
    }
    if bytes > WorkerLink.inlineBytesMax { shared.copies += loose }
    return !shared.copies.isEmpty
  }

  /// What workers copy for that. Reserves the memory; RESOURCE_EXHAUSTED where there is none now.
  func copyIn(_ call: Call, _ pool: ProcessPool) throws(StatusError) -> [WorkerCopy.Part] {
    let bytes = shared.copies.reduce(0) { $0 + TensorLayout.align64($1.count) }
    if let shortage = call.account.reserve(bytes) {
      throw StatusError(
        .resourceExhausted,
        "no memory now for \(bytes) bytes of inputs that the plugin's process is to be shown: "
          + "\(shortage.text)"
      )
    }
    let segment: SharedSegment
    do throws(StatusError) {
      segment = try pool.segments.take(bytes, isInput: true, home: home, isFree: pool.isIdle)
    } catch {
      call.account.release(bytes)
      throw error
    }
    shared.segment = PayloadBuffer(reserved: bytes, call.account, segment, of: pool.segments)
    shared.segmentBytes = bytes
    var offset = 0
    return shared.copies.map { copy in
      defer { offset += TensorLayout.align64(copy.count) }
      return WorkerCopy.Part(
        to: segment.base + offset, from: copy.from, count: copy.count, segment: segment,
        segmentOffset: offset,
        // The segment may have been another call's: what lies between two inputs is nobody's.
        clearedBehind: TensorLayout.align64(copy.count) - copy.count)
    }
  }

  /// The copies are there: the evaluation's inputs are they.
  func copiedIn() {
    guard let evaluation, var place = shared.segment?.base else { return }
    for copy in shared.copies {
      evaluation.request.moveInput(copy.input, to: place)
      place += TensorLayout.align64(copy.count)
    }
    shared.copies.removeAll()
  }

  /// What workers copy to bring a library's results to the client's memory.
  func copyOut(_ evaluation: Evaluation) throws(StatusError) -> [WorkerCopy.Part] {
    if shared.places.isEmpty || !evaluation.entry.isForeign { return [] }
    var parts: [WorkerCopy.Part] = []
    for place in shared.places {
      let (view, _, name) = evaluation.result(place.position)
      guard view.byteCount == place.count else {
        throw StatusError(
          .invalidArgument,
          "\(evaluation.entry.name): \(String(cString: name)): the place for it has \(place.count) "
            + "bytes, the result has \(view.byteCount)")
      }
      if let data = view.data {
        let segment = results?.segment
        parts.append(
          WorkerCopy.Part(
            to: place.base, from: data, count: place.count, segment: segment,
            segmentOffset: segment.map { data - $0.base } ?? 0))
      }
    }
    return parts
  }
}
