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
  static let ownResultBytes = ResultBytes.copiedBytesMax
  static let ownWorkspaceBytes = 16 << 10
  private static let ownArenaBytes = 16 << 10
  /// Messages up to this are decoded into what a job takes in any case, nearly always.
  private static let smallMessageBytes = 1 << 10
  /// What a job takes of memory whatever its request, about.
  static let ownBytes = ownPayloadBytes + ownResultBytes + ownWorkspaceBytes + 4096

  private let arena = MessageArena(
    retainedBytes: EvaluateJob.ownArenaBytes, fieldsMax: MessageArena.requestFieldsMax)
  private(set) var request: EvaluateRequestMessage?
  private(set) var evaluation: Evaluation?
  /// When the request was whole, `Clock.now`'s nanoseconds.
  var completeTime: UInt64 = 0

  /// The message of the response, for the next one of the same request.
  let encoded = EncodedMessage()
  /// In one block of pages, which goes back to the system with the job.
  let ownPayload: AlignedBuffer
  let ownResults: AlignedBuffer
  /// Memory that no call has used yet costs nothing.
  let ownWorkspace: AlignedBuffer
  var payload: PayloadBuffer?
  var payloadBytes = 0
  var inlineTensors: AlignedBuffer?
  var results: PayloadBuffer?
  var workspace: PayloadBuffer?
  /// What is reserved is reserved there; nil: nothing is.
  private(set) var account: MemoryBudget?
  /// What small things of the job are charged to, and how much of it. The connection is there as
  /// long as it has calls.
  private var small: Unretained<SmallAccount>?
  private var smallBytes = 0
  var scratchReserved = 0
  /// Reserved together with the payload for what running takes: a call that has its payload never
  /// waits for its results, or calls could hold the memory that all of them wait for.
  var runReserved = 0
  /// Inputs of the stream that this batch uses; held so that they outlive it.
  var kept: [KeptInput] = []
  /// Those of the function's plugin, where it runs in its own.
  var processes: ProcessPool?
  /// What it uses of the client's memory.
  let shared = SharedTensors()
  /// What is known of the request before, which the next one often equals but for its payload.
  let last = LastRequest()
  /// The request equals the one before, whose decoded message, plan and memory are still there.
  private(set) var isRepeat = false
  private var functionCounter: FunctionCounter?
  /// The evaluation has the request's function, attributes and outputs.
  private(set) var isBegun = false
  /// It has its inputs, but for their elements where the payload is still to come.
  var hasSetInputs = false
  private var isPlanned = false

  init() {
    let (payload, results) = (EvaluateJob.ownPayloadBytes, EvaluateJob.ownResultBytes)
    let workspace = EvaluateJob.ownWorkspaceBytes
    let block = PageBlock(payload + results + workspace)
    ownPayload = AlignedBuffer(block.base, count: payload, lentBy: block)
    ownResults = AlignedBuffer(block.base + payload, count: results, lentBy: block)
    ownWorkspace = AlignedBuffer(
      block.base + payload + results, count: workspace, lentBy: block)
  }

  /// One that a thread was stuck in is not reset, but let go when that thread is back.
  deinit { releaseReserved() }

  private func releaseReserved() {
    let reserved = scratchReserved + runReserved
    if reserved > 0 { account?.release(reserved) }
    scratchReserved = 0
    runReserved = 0
  }

  /// Empty again, its memory given back. What a call like it needs anew may stay.
  func reset() {
    if last.isRepeatable { last.payloadBytes = payloadBytes } else { forget() }
    isBegun = false
    hasSetInputs = false
    isPlanned = false
    isRepeat = false
    payload = nil
    payloadBytes = 0
    inlineTensors = nil
    results = nil
    workspace = nil
    kept.removeAll(keepingCapacity: true)
    processes = nil
    shared.removeAll()
    releaseReserved()
    giveSmall()
    if account != nil { account = nil }
    // An evaluation holds its function, and a library's function its library, which is to be
    // closed.
    if evaluation?.entry.owner != nil { evaluation = nil }
  }

  /// Begins a request of a call: charges what the job takes in any case.
  func begin(_ call: Call) throws(StatusError) {
    small = call.small
    try takeSmall(EvaluateJob.ownBytes, "a request")
  }

  /// Charges small things of the job. RESOURCE_EXHAUSTED where there is no room.
  func takeSmall(_ bytes: Int, _ what: @autoclosure () -> String) throws(StatusError) {
    guard let small else { return }
    if let shortage = small.with({ $0.take(bytes) }) {
      throw StatusError(.resourceExhausted, "no memory now for \(what()): \(shortage.text)")
    }
    smallBytes += bytes
  }

  /// Nothing small is charged any more: the job is empty, or a thread's that is stuck in it.
  func giveSmall() {
    guard let small else { return }
    small.with { $0.give(smallBytes) }
    smallBytes = 0
    self.small = nil
  }

  private func forget() {
    request = nil
    functionCounter = nil
    encoded.removeAll()
    arena.reset()
    last.forget()
  }

  /// The call went well: a request of the same bytes needs neither be decoded nor planned again.
  /// Functions of libraries may be exchanged meanwhile, and bigger calls have other memory each
  /// time.
  func noteSuccess() {
    guard let evaluation, !evaluation.entry.isForeign, payload == nil, results == nil,
      workspace == nil, inlineTensors == nil, kept.isEmpty, shared.isEmpty, scratchReserved == 0
    else { return }
    last.isRepeatable = last.isKnown
  }

  /// What counts the calls of the request's function.
  func withCounter(_ metrics: Metrics, _ entry: FunctionEntry, _ body: (FunctionCounter) -> Void) {
    if let functionCounter { return Unretained(functionCounter).with(body) }
    let counter = metrics.counter(entry.name)
    functionCounter = counter
    body(counter)
  }

  // MARK: - Receiving

  /// Decodes the message; what it names stays valid until `reset`.
  func decode(_ message: UnsafeRawBufferPointer, _ call: Call) throws(StatusError) {
    if last.isRepeatable, last.equals(message) {
      isRepeat = true
      last.isRepeatable = false
      return
    }
    forget()
    // What decoding may take is charged before it is taken, and afterwards what it has taken.
    let isSmall = message.count <= EvaluateJob.smallMessageBytes
    let bound = isSmall ? 0 : try EvaluateRequestMessage.decodedBytesMax(message)
    try takeSmall(bound, "a message of \(message.count) bytes; put the tensors into the payload")
    let request = try EvaluateRequestMessage(decoding: message, in: arena)
    let taken = max(arena.capacity - EvaluateJob.ownArenaBytes, 0)
    if taken > bound {
      try takeSmall(taken - bound, "a message of \(message.count) bytes")
    } else if taken < bound {
      smallBytes -= bound - taken
      small?.with { $0.give(bound - taken) }
    }
    try request.validateNames()
    self.request = request
    last.keep(message)
  }

  /// The account of the call, where the job is going to reserve something.
  func charge(_ call: Call) -> MemoryBudget {
    if let account { return account }
    let new = call.account
    account = new
    return new
  }

  /// Whether everything is as it was for the request before, but for the payload's bytes: then it
  /// is ready to be bound and run.
  func repeats() -> Bool {
    if isRepeat, payload == nil, payloadBytes == last.payloadBytes, let evaluation {
      Unretained(evaluation).with { $0.rewind() }
      return true
    }
    isRepeat = false
    encoded.removeAll()
    return false
  }

  // MARK: - The evaluation

  /// The evaluation, uncounted; not where there is none.
  @inline(__always)
  func withEvaluation<Failure>(_ body: (Evaluation) throws(Failure) -> Void) throws(Failure) {
    guard let evaluation else { return }
    try Unretained(evaluation).with(body)
  }

  /// Gives the evaluation away, as a stream's template.
  func takeEvaluation() -> Evaluation? {
    defer {
      evaluation = nil
      isBegun = false
    }
    return evaluation
  }

  /// Begins one batch of a stream: function, attributes and outputs are the template's.
  func beginBatch(like template: Evaluation) {
    evaluation(for: template.entry).begin(like: template)
    isBegun = true
  }

  /// Plans it, the first time.
  func plan() throws(StatusError) {
    if isPlanned { return }
    try withEvaluation { (evaluation) throws(StatusError) in try evaluation.makePlan() }
    isPlanned = true
  }

  /// The function, attributes and outputs are those of the request.
  func noteBegun() { isBegun = true }

  func evaluation(for entry: FunctionEntry) -> Evaluation {
    if let evaluation { return evaluation }
    let new = Evaluation(entry)
    evaluation = new
    return new
  }

  var payloadBase: UnsafeMutableRawPointer { payload?.base ?? ownPayload.base }

  var payloadMemory: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: payloadBase, count: payloadBytes)
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
