import LossdEngine
import LossdTensor
import LossdWire

/// One call, between the session that brings it and the handler that answers it: method, peer,
/// deadline, demand for responses; requests come in and responses go out as values. How they are
/// written is the session's affair, which subclasses it. Reused from call to call, with its
/// handlers. Confined to its loop's thread.
class Call {
  /// About the bytes that every call takes, beside its jobs.
  static let ownBytes = 8 << 10

  /// A loop outlives its calls: it makes them, and frees them after its last turn.
  let loopContext: Unretained<CallLoop>
  /// The number that the session knows the call by.
  final private(set) var id: UInt32 = 0
  final private(set) var method = Method(
    number: 0, path: "", isStreaming: false, isEvaluating: false)
  /// `Clock.now`'s nanoseconds; `.max`: none.
  final private(set) var deadline = UInt64.max
  /// Responses that the client will still take; `.max`: no limit.
  final var responseCredit = UInt64.max
  /// Requests that the client may still send.
  final var requestCredit: UInt32 = 0
  /// The client has said that no more requests follow.
  final var isHalfClosed = false
  /// Requests are read and dropped.
  final private(set) var isDroppingRequests = false
  /// nil: the access log was off when the call began.
  final var record: AccessRecord?
  /// The method's side of the call.
  final private(set) var handler: Unretained<CallHandler>

  /// What the call has used so far, by the methods' numbers.
  private var handlers: [CallHandler?] = []
  private let noHandler = CallHandler()
  private var deadlineEntry: DeadlineEntry?
  private var waiter: MemoryWaiter?
  /// The call's progress at the last inspection, and when the call had last got on.
  private var inspectedSteps = -1
  private var inspectedBytes = 0
  private var inspectedTime: UInt64 = 0

  init(_ context: CallLoop) {
    loopContext = Unretained(context)
    handler = Unretained(noHandler)
    deadlineEntry = DeadlineEntry { [unowned self] in
      handler.object.cancel(StatusError(.deadlineExceeded, "the call's time is up"))
    }
    waiter = MemoryWaiter(
      onRelease: { [unowned self] in handler.object.memoryReleased() },
      onTimeout: { [unowned self] reason in
        handler.object.cancel(self.context.memoryTimedOut("the call", reason))
      })
  }

  final var context: CallLoop { loopContext.object }

  // MARK: - What the session does

  /// Begins a call.
  /// - Parameters:
  ///   - timeout: nanoseconds; 0: none.
  ///   - responses: how many the client will take; 0: no limit.
  ///   - requests: how many the client may send.
  final func begin(
    _ id: UInt32, _ method: Method, timeout: UInt64, responses: UInt32, requests: UInt32,
    makeHandler: (Method, CallLoop) -> CallHandler
  ) {
    self.id = id
    self.method = method
    requestCredit = requests
    responseCredit = responses == 0 ? .max : UInt64(responses)
    isHalfClosed = false
    isDroppingRequests = false
    deadline = .max
    if timeout > 0, let deadlineEntry {
      deadline = Clock.now &+ timeout
      context.deadlines.set(deadlineEntry, at: deadline)
    }
    while handlers.count <= method.number { handlers.append(nil) }
    if handlers[method.number] == nil {
      handlers[method.number] = makeHandler(method, context)
    }
    if let chosen = handlers[method.number] { handler = Unretained(chosen) }
    handler.with { $0.begin(self) }
  }

  /// The call is over: releases everything but the object, which is used again.
  func reset() {
    if record != nil { record = nil }
    inspectedSteps = -1
    if let deadlineEntry, deadlineEntry.isSet {
      loopContext.with { $0.deadlines.cancel(deadlineEntry) }
    }
    stopWaitingForMemory()
  }

  // MARK: - What the handler asks for

  /// What the call's buffers are charged to.
  var account: MemoryBudget { preconditionFailure("a session's") }
  /// What small things of the call are charged to.
  var small: Unretained<SmallAccount> { preconditionFailure("a session's") }
  /// What can be called where the client has connected.
  var services: ServiceSet { preconditionFailure("a session's") }
  /// Who the call's work is scheduled with.
  var group: WorkGroup { preconditionFailure("a session's") }

  /// Memory that the client shares, by the number that it gave it. FAILED_PRECONDITION where there
  /// is none at all, INVALID_ARGUMENT where there is none of that number.
  func region(_ id: UInt64) throws(StatusError) -> SharedRegion {
    throw StatusError(.failedPrecondition, "shared memory is not available on this connection")
  }

  /// The function that the call is of has been found, for the access log.
  final func functionFound(_ evaluation: Evaluation) {
    if record != nil { record?.function = evaluation.entry.name }
  }

  /// Sends a response with the payload `results`. RESOURCE_EXHAUSTED, and nothing is sent, when it
  /// is over the client's limits. After the last one the call is over. `encoded`: the message's
  /// bytes where the same has been sent before, else they are kept there.
  func respond(
    _ response: OutgoingResponse, encoded: EncodedMessage?, results: ResultBytes, isLast: Bool
  ) throws(StatusError) { preconditionFailure("a session's") }

  /// Sends the only response, which has no payload; the call is over.
  func respond(_ answer: Answer) throws(StatusError) { preconditionFailure("a session's") }

  /// Sends a response whose message is what `encode` appends. For services of gRPC's own.
  func respond(message encode: (OutputBuffer) -> Void) throws(StatusError) {
    preconditionFailure("a session's of gRPC")
  }

  /// Ends the call well, after the responses so far. For services of gRPC's own.
  func finish() { preconditionFailure("a session's of gRPC") }

  /// Lets the client send so many requests more.
  func grantRequests(_ count: UInt32) { preconditionFailure("a session's") }

  /// Requests that still come are dropped.
  final func dropRequests() { isDroppingRequests = true }

  /// Ends the call with an error. Nothing may touch its buffers any more.
  func end(_ error: StatusError) { preconditionFailure("a session's") }

  /// `handler.memoryReleased` is to be called when memory has been released where there was no
  /// room; after `limits.wait_timeout` the call is cancelled.
  final func waitForMemory(_ shortage: Shortage) {
    guard let waiter else { return }
    context.waits.wait(
      waiter, small.object.share.user, shortage, timeout: context.limits.waitTimeout)
  }

  /// The call has its memory.
  final func stopWaitingForMemory() {
    guard let waiter, waiter.isTimed else { return }
    loopContext.with { $0.waits.cancel(waiter) }
  }

  // MARK: - Others wait for memory

  /// Ends the call where it holds memory and its client has not got on with it for `timeout`
  /// nanoseconds.
  /// - Parameters:
  ///   - received: bytes that have come of the payload under way, where it is this call's.
  ///   - progress: as many in `timeout` are progress.
  final func inspect(_ now: UInt64, _ timeout: UInt64, received: Int, progress: Int) {
    let isSmall = account.bytesInFlight == 0
    guard case .idle(let steps) = handler.object.holding,
      !isSmall || small.object.share.isLarge
    else {
      inspectedSteps = -1
      return
    }
    if steps != inspectedSteps || received - inspectedBytes >= progress {
      inspectedSteps = steps
      inspectedBytes = received
      inspectedTime = now
    } else if now - inspectedTime >= timeout {
      dropRequests()
      handler.object.cancel(
        StatusError(
          .resourceExhausted,
          "for \(timeout / 1_000_000) ms (limits.starve_timeout) the call has held memory that "
            + "others wait for, without getting on"))
    }
  }
}

/// What methods other than the evaluating ones answer.
enum Answer {
  case functions(ListFunctionsResponse)
  case status(GetStatusResponse)
  case plugins(PluginsResponse, answering: PluginRequest)
}

extension UInt32 {
  func saturatingAdd(_ other: UInt32) -> UInt32 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}
