import LossdEngine
import LossdPluginHost
import LossdTensor
import LossdWire

/// One evaluating request from its message to its response: the decoded message, the payload, the
/// evaluation and its results. Small ones live in memory of the job's own, which stays with it from
/// request to request. Confined to its loop's thread, but for the chunks of its evaluation.
final class EvaluateJob {
  /// Up to these, memory is the job's own and not accounted, bytes.
  static let ownPayloadBytes = 16 << 10
  static let ownResultBytes = OutputQueue.copiedBytesMax
  static let ownWorkspaceBytes = 16 << 10

  private let arena = MessageArena(retainedBytes: 16 << 10)
  private(set) var request: EvaluateRequestMessage?
  private(set) var evaluation: Evaluation?
  /// When the request was whole, `Clock.now`'s nanoseconds.
  var completeTime: UInt64 = 0

  /// The message of the response, for the next one of the same request.
  private let encoded = EncodedMessage()
  private let ownPayload = AlignedBuffer(count: EvaluateJob.ownPayloadBytes)
  private let ownResults = AlignedBuffer(count: EvaluateJob.ownResultBytes)
  private var ownWorkspace: AlignedBuffer?
  private var payload: PayloadBuffer?
  private var payloadBytes = 0
  private var inlineTensors: AlignedBuffer?
  private var results: PayloadBuffer?
  private var workspace: PayloadBuffer?
  private var account: MemoryAccount?
  private var messageReserved = 0
  private var scratchReserved = 0
  /// Reserved together with the payload for what running takes: a call that has its payload never waits
  /// for its results, or calls could hold the memory that all of them wait for.
  private var runReserved = 0
  /// Inputs of the stream that this batch uses; held so that they outlive it.
  private var kept: [KeptInput] = []
  /// Those of the function's plugin, where it runs in its own.
  private var processes: ProcessPool?
  /// What is known of the request before, which the next one often equals but for its payload.
  private let last = LastRequest()
  /// The request equals the one before, whose decoded message, plan and memory are still there.
  private(set) var isRepeat = false
  private var functionCounter: FunctionCounter?

  /// Empty again, its memory given back. What a call like it needs anew may stay.
  func reset() {
    if last.isRepeatable { last.payloadBytes = payloadBytes } else { forget() }
    isRepeat = false
    payload = nil
    payloadBytes = 0
    inlineTensors = nil
    results = nil
    workspace = nil
    kept.removeAll(keepingCapacity: true)
    processes = nil
    let reserved = messageReserved + scratchReserved + runReserved
    if reserved > 0 { account?.release(reserved) }
    messageReserved = 0
    scratchReserved = 0
    runReserved = 0
    account = nil
    // An evaluation holds its function, and a library's function its library, which is to be closed.
    if evaluation?.entry.owner != nil { evaluation = nil }
  }

  private func forget() {
    request = nil
    functionCounter = nil
    encoded.removeAll()
    arena.reset()
    last.forget()
  }

  /// The call went well: a request of the same bytes needs neither be decoded nor planned again. Functions of
  /// libraries may be exchanged meanwhile, and bigger calls have other memory each time.
  func noteSuccess() {
    guard let evaluation, !evaluation.entry.isForeign, payload == nil, results == nil,
      workspace == nil, inlineTensors == nil, kept.isEmpty, messageReserved + scratchReserved == 0
    else { return }
    last.isRepeatable = last.isKnown
  }

  /// What counts the calls of the request's function.
  func counter(_ metrics: Metrics) -> FunctionCounter? {
    if functionCounter == nil, let evaluation {
      functionCounter = metrics.counter(evaluation.entry.name)
    }
    return functionCounter
  }

  // MARK: - Receiving

  /// Decodes the message; what it names stays valid until `reset`.
  func decode(_ message: UnsafeRawBufferPointer, _ account: MemoryAccount) throws(StatusError) {
    self.account = account
    if last.isRepeatable, last.equals(message) {
      isRepeat = true
      last.isRepeatable = false
      return
    }
    forget()
    // A message of this size is decoded into about as many bytes, and its inline tensors are copied.
    let needed = message.count > EvaluateJob.ownPayloadBytes ? 2 * message.count : 0
    guard account.reserve(needed) else {
      throw StatusError(
        .resourceExhausted,
        "no memory for a message of \(message.count) bytes now; try again, or "
          + "put the tensors into the payload")
    }
    messageReserved = needed
    let request = try EvaluateRequestMessage(decoding: message, in: arena)
    try request.validateNames()
    self.request = request
    last.keep(message)
  }

  /// Whether everything is as it was for the request before, but for the payload's bytes: then it is ready to be
  /// bound and run.
  func repeats() -> Bool {
    guard isRepeat, payload == nil, payloadBytes == last.payloadBytes, let evaluation else {
      isRepeat = false
      encoded.removeAll()
      return false
    }
    evaluation.rewind()
    return true
  }

  /// Where a payload of so many bytes goes. A big one's evaluation is planned first, by the shapes and
  /// types in the message: what is wrong with them is known before a byte of it is read.
  /// - Parameter prepare: begins the evaluation, as it will be again when the payload is there.
  func destination(
    _ byteCount: Int, _ context: LoopContext, _ account: MemoryAccount,
    prepare: () throws(StatusError) -> Void
  ) -> Destination {
    payloadBytes = byteCount
    if byteCount <= ownPayload.count { return .receive(ownPayload.base) }
    do throws(StatusError) {
      try prepare()
      if let entry = evaluation?.entry, entry.isForeign {
        return try foreignDestination(byteCount, context, account, entry)
      }
      try setInputs(isPlanning: true)
      // A stream's request of inputs that stay is no batch, and needs nothing to run.
      if bringsBatch { try evaluation?.makePlan() }
    } catch { return .refuse(error) }
    let needed = bringsBatch ? neededBytes(workers: context.scheduler.workers) : 0
    guard account.canEverFit(byteCount + needed) else {
      return .refuse(
        StatusError(
          .resourceExhausted,
          "payload, results and working memory take \(byteCount + needed) bytes, over the "
            + "connection's limit of \(account.bytesMax) bytes in flight"))
    }
    guard account.reserve(byteCount + needed) else { return .wait }
    runReserved = needed
    let buffer = PayloadBuffer(reserved: byteCount, account, context.pool)
    payload = buffer
    return .receive(buffer.base)
  }

  /// For a plugin's function the payload's memory alone is reserved: its plan takes a thread or a process, and
  /// reading from the connection must not wait for that.
  private func foreignDestination(
    _ byteCount: Int, _ context: LoopContext, _ account: MemoryAccount, _ entry: FunctionEntry
  ) throws(StatusError) -> Destination {
    guard account.canEverFit(byteCount) else {
      throw StatusError(
        .resourceExhausted,
        "the payload takes \(byteCount) bytes, over the connection's limit of \(account.bytesMax) bytes in flight"
      )
    }
    guard account.reserve(byteCount) else { return .wait }
    processes = context.foreign.pool(entry)
    do throws(StatusError) {
      let buffer = try buffer(byteCount, account, context.pool, isInput: true)
      payload = buffer
      return .receive(buffer.base)
    } catch {
      account.release(byteCount)
      throw error
    }
  }

  /// Memory of reserved bytes that the function's code can see.
  private func buffer(
    _ bytes: Int, _ account: MemoryAccount, _ pool: BufferPool, isInput: Bool
  ) throws(StatusError) -> PayloadBuffer {
    guard let processes else { return PayloadBuffer(reserved: bytes, account, pool) }
    let segments = processes.segments
    let segment = try segments.take(
      bytes, isInput: isInput, home: segments.home(of: self), isFree: processes.isIdle)
    return PayloadBuffer(reserved: bytes, account, segment, of: segments)
  }

  /// Whether the request has an input that does not stay.
  private var bringsBatch: Bool {
    guard let evaluation else { return false }
    return (0..<evaluation.entry.inputs.count).contains {
      evaluation.hasInput($0) && !evaluation.entry.isKept($0)
    }
  }

  private var payloadBase: UnsafeMutableRawPointer { payload?.base ?? ownPayload.base }

  private var payloadMemory: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: payloadBase, count: payloadBytes)
  }

  // MARK: - Setting up

  /// Begins an evaluation of the function that the request names, with its attributes and outputs.
  func beginEvaluation(_ table: FunctionTable) throws(StatusError) -> FunctionEntry {
    guard let request else { throw StatusError(.internal, "no request") }
    guard !request.function.isEmpty else {
      throw StatusError(.invalidArgument, "the request names no function")
    }
    guard let entry = table.find(request.function) else {
      throw StatusError(.notFound, "no function named `\(displayText(request.function))`")
    }
    evaluation(for: entry).begin(entry)
    guard let evaluation else { throw StatusError(.internal, "no evaluation") }
    for index in 0..<request.attributeCount {
      let (name, value) = request.attribute(index)
      try evaluation.setAttribute(name, AttributeArgument(value))
    }
    for index in 0..<request.outputCount {
      let (name, into) = request.output(index)
      if into != nil {
        throw StatusError(
          .failedPrecondition,
          "\(entry.name): \(displayText(name)): shared memory is not available on this connection")
      }
      try evaluation.want(name)
    }
    if request.outputCount == 0 { evaluation.wantDefault() }
    return entry
  }

  /// Gives the evaluation away, as a stream's template.
  func takeEvaluation() -> Evaluation? {
    defer { evaluation = nil }
    return evaluation
  }

  /// Begins one batch of a stream: function, attributes and outputs are the template's.
  func beginBatch(like template: Evaluation) {
    evaluation(for: template.entry).begin(like: template)
  }

  private func evaluation(for entry: FunctionEntry) -> Evaluation {
    if let evaluation { return evaluation }
    let new = Evaluation(entry)
    evaluation = new
    return new
  }

  /// Gives the evaluation the request's tensors; for planning alone, without their elements.
  func setInputs(isPlanning: Bool = false) throws(StatusError) {
    guard let request, let evaluation else { return }
    let inline = isPlanning ? nil : try copyInlineTensors(request, evaluation.entry.name)
    var offset = 0
    for index in 0..<request.inputCount {
      let input = request.input(index)
      var view = try prefixed(evaluation.entry.name) { () throws(StatusError) in
        try input.validated(payload: payloadMemory)
      }
      if isPlanning {
        view = TensorView(data: nil, shape: view.shape, count: view.count, dataType: view.dataType)
      }
      if let inline, case .inline = input.storage, view.count > 0 {
        let copy = inline + offset
        offset += TensorLayout.align64(view.byteCount)
        view = TensorView(
          data: copy, shape: view.shape, count: view.count, dataType: view.dataType)
      }
      try evaluation.setInput(input.name, view)
    }
    evaluation.ownInputs = ownInputs(request, evaluation)
  }

  /// Inputs of the stream that this batch did not bring itself.
  func addKept(_ inputs: [KeptInput]) throws(StatusError) {
    guard let evaluation else { return }
    for input in inputs where !evaluation.hasInput(input.index) {
      try evaluation.setInput(input.name, input.view)
      kept.append(input)
    }
  }

  /// Kernels read 64-byte-aligned memory; a protobuf field is not.
  private func copyInlineTensors(
    _ request: EvaluateRequestMessage, _ function: String
  ) throws(StatusError) -> UnsafeMutableRawPointer? {
    var bytes = 0
    for index in 0..<request.inputCount {
      if case .inline(let data) = request.input(index).storage {
        bytes += TensorLayout.align64(data.count)
        // Its copy shares the payload's memory, which the next one overwrites.
        last.forget()
      }
    }
    if bytes == 0 { return nil }
    // The payload, where there is one, has its own memory or the front of the job's.
    let front = payload == nil ? TensorLayout.align64(payloadBytes) : 0
    var base: UnsafeMutableRawPointer
    if front + bytes <= ownPayload.count {
      base = ownPayload.base + front
    } else {
      let buffer = AlignedBuffer(count: bytes)
      inlineTensors = buffer
      base = buffer.base
    }
    let start = base
    for index in 0..<request.inputCount {
      guard case .inline(let data) = request.input(index).storage, let source = data.baseAddress
      else { continue }
      base.copyMemory(from: source, byteCount: data.count)
      base += TensorLayout.align64(data.count)
    }
    return start
  }

  // MARK: - Running

  /// What running takes beyond the job's own memory, bytes; 0 for a small call.
  func neededBytes(workers: Int) -> Int {
    guard let evaluation else { return 0 }
    return (evaluation.resultBytes > ownResults.count ? evaluation.resultBytes : 0)
      + (evaluation.workspaceBytes > EvaluateJob.ownWorkspaceBytes ? evaluation.workspaceBytes : 0)
      + (evaluation.scratchBytes > 1 << 16 ? evaluation.scratchBytes * workers : 0)
  }

  /// Takes the memory for results and work; false when there is none now.
  func bind(
    _ account: MemoryAccount, _ pool: BufferPool, workers: Int
  ) throws(StatusError) -> Bool {
    guard let evaluation else { return false }
    let needed = neededBytes(workers: workers)
    if needed > runReserved {
      guard account.reserve(needed - runReserved) else { return false }
    } else if needed < runReserved {
      account.release(runReserved - needed)
    }
    runReserved = 0
    if evaluation.scratchBytes > 1 << 16 { scratchReserved = evaluation.scratchBytes * workers }
    if evaluation.resultBytes > ownResults.count {
      do throws(StatusError) {
        results = try buffer(evaluation.resultBytes, account, pool, isInput: false)
      } catch {
        runReserved = needed - scratchReserved
        throw error
      }
    }
    if evaluation.entry.isElsewhere {
      // Its process has its own workspace, which is reserved here.
      if evaluation.workspaceBytes > EvaluateJob.ownWorkspaceBytes {
        runReserved = evaluation.workspaceBytes
      }
      evaluation.bindAdopted(results: results?.base ?? ownResults.base)
      return true
    }
    var memory: AlignedBuffer?
    if evaluation.workspaceBytes > EvaluateJob.ownWorkspaceBytes {
      let buffer = PayloadBuffer(reserved: evaluation.workspaceBytes, account, pool)
      workspace = buffer
      memory = buffer.aligned
    } else if evaluation.workspaceBytes > 0 {
      memory = ownWorkspaceMemory
    }
    evaluation.bind(results: results?.base ?? ownResults.base, workspace: memory)
    return true
  }

  private var ownWorkspaceMemory: AlignedBuffer {
    let memory = ownWorkspace ?? AlignedBuffer(count: EvaluateJob.ownWorkspaceBytes)
    ownWorkspace = memory
    return memory
  }

  // MARK: - Plugins

  /// What a plugin's small call is computed in.
  var smallMemory: SmallMemory {
    SmallMemory(
      results: ownResults.base, resultBytes: ownResults.count, workspace: ownWorkspaceMemory,
      costMax: LoopContext.inlineTurnCost)
  }

  /// Memory of this call that a process has been, or will be, shown.
  var sharedSegments: [SharedSegment] {
    [payload?.segment, results?.segment].compactMap { $0 }
  }

  /// Memory that inputs lie in, and as many bytes of it as the process is to see.
  var segmentsToShow: [(SharedSegment, bytes: Int)] {
    var shown = kept.compactMap { input in input.segment.map { ($0, bytes: input.view.byteCount) } }
    if let segment = payload?.segment {
      // Pages are mapped whole: what is left of the last one is not another call's.
      let end = min((payloadBytes + 4095) & ~4095, segment.capacity)
      (segment.base + payloadBytes).initializeMemory(
        as: UInt8.self, repeating: 0, count: end - payloadBytes)
      shown.append((segment, bytes: payloadBytes))
    }
    return shown
  }

  var resultSegment: SharedSegment? { results?.segment }

  /// Takes small results over that a process has sent; none: they are in the result segment.
  func adoptResults(_ bytes: UnsafeRawBufferPointer) throws(StatusError) {
    guard let evaluation, results == nil else { return }
    guard bytes.count == evaluation.resultBytes, bytes.count <= ownResults.count else {
      throw StatusError(
        .internal,
        "\(evaluation.entry.name): the plugin \(evaluation.entry.plugin)'s process sent \(bytes.count) bytes of "
          + "results, expected \(evaluation.resultBytes)")
    }
    if let base = bytes.baseAddress {
      ownResults.base.copyMemory(from: base, byteCount: bytes.count)
    }
    evaluation.bindAdopted(results: ownResults.base)
  }

  /// Sends the results.
  func respond(_ call: Call, isLast: Bool) throws(StatusError) {
    guard let request, let evaluation else { return }
    let count = evaluation.wantedOutputs.count
    var failure: StatusError?
    withUnsafeTemporaryAllocation(of: OutgoingTensor.self, capacity: max(count, 1)) { tensors in
      for position in 0..<count {
        let (view, offset, name) = evaluation.result(position)
        (tensors.baseAddress.unsafelyUnwrapped + position).initialize(
          to: OutgoingTensor(
            name: cStringBytes(name), dataType: view.dataType, shape: view.shape,
            storage: .payload(offset: UInt64(offset), length: UInt64(view.byteCount))))
      }
      let response = OutgoingResponse(
        id: request.id, outputs: UnsafeBufferPointer(start: tensors.baseAddress, count: count))
      do throws(StatusError) {
        try call.respond(
          response, encoded: isLast ? encoded : nil, results: resultBytes(evaluation),
          isLast: isLast)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }
}

extension EvaluateJob {
  private func resultBytes(_ evaluation: Evaluation) -> ResultBytes {
    var bytes = ResultBytes(
      buffer: results, small: ownResults.base, count: evaluation.payloadBytes,
      total: evaluation.payloadBytes)
    if evaluation.overwrites.isEmpty { return bytes }
    bytes.count = evaluation.resultBytes
    bytes.request = payload
    bytes.pieces = evaluation.overwrites.map { position, _ in
      let view = evaluation.result(position).view
      return ((view.data ?? payloadBase) - payloadBase, view.byteCount)
    }
    return bytes
  }

  /// Inputs, by bit, that lie in the payload of this call and overlap no other: results may take their places.
  private func ownInputs(
    _ request: EvaluateRequestMessage, _ evaluation: Evaluation
  ) -> UInt64 {
    guard payloadBytes > ownPayload.count, !evaluation.entry.isForeign else { return 0 }
    var mask: UInt64 = 0
    for index in 0..<request.inputCount {
      guard case .payload(let begin, let length) = request.input(index).storage,
        length > UInt64(OutputQueue.copiedBytesMax),
        let place = evaluation.entry.input(named: request.input(index).name)
      else { continue }
      let overlaps = (0..<request.inputCount).contains { other in
        guard other != index, case .payload(let from, let size) = request.input(other).storage
        else { return false }
        return from < begin + length && begin < from + size
      }
      if !overlaps { mask |= 1 << UInt64(place) }
    }
    return mask
  }
}

/// The bytes of a C string, without its NUL.
func cStringBytes(_ text: UnsafePointer<CChar>) -> UnsafeRawBufferPointer {
  var count = 0
  while text[count] != 0 { count += 1 }
  return UnsafeRawBufferPointer(start: text, count: count)
}

/// Puts a function's name in front of an error's text.
func prefixed<Result>(
  _ function: String, _ body: () throws(StatusError) -> Result
) throws(StatusError) -> Result {
  do throws(StatusError) { return try body() } catch {
    throw StatusError(error.code, "\(function): \(error.message)", metadata: error.metadata)
  }
}

extension AttributeArgument {
  init(_ value: ValueMessage) {
    switch value {
    case .none: self = .none
    case .bool(let bool): self = .bool(bool)
    case .int(let int): self = .int(int)
    case .float(let float): self = .float(float)
    case .string(let bytes): self = .string(bytes)
    }
  }
}
