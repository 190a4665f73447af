import LossdEngine
import LossdTensor
import LossdWire

/// One call as its handler sees it, whatever transport it came by: a deadline, demand for
/// responses, memory, and a way to answer. Confined to its loop's thread. Transports subclass it.
class Call {
  /// A loop outlives its calls: it makes them, and frees them after its last turn.
  let loopContext: Unretained<LoopContext>
  var method = Method.evaluate
  /// `Clock.now`'s nanoseconds; `.max`: none.
  var deadline = UInt64.max
  /// Responses that the client will still take; `.max`: no limit.
  var responseCredit = UInt64.max

  init(_ context: LoopContext) { loopContext = Unretained(context) }

  final var context: LoopContext { loopContext.object }

  /// What the call's buffers are charged to.
  var account: MemoryBudget { preconditionFailure("a transport's") }
  /// Who the call's work is scheduled with.
  var group: WorkGroup { preconditionFailure("a transport's") }
  /// Whether nobody is there to hear the answer any more.
  var isAbandoned: Bool { preconditionFailure("a transport's") }

  /// Memory that the client shares, by the number that it gave it. FAILED_PRECONDITION where there
  /// is none at all, INVALID_ARGUMENT where there is none of that number.
  func region(_ id: UInt64) throws(StatusError) -> SharedRegion {
    throw StatusError(.failedPrecondition, "shared memory is not available on this connection")
  }

  /// The function that the call is of has been found, for the access log.
  func functionFound(_ evaluation: Evaluation) {}

  /// Sends a response with the payload `results`. RESOURCE_EXHAUSTED, and nothing is sent, when it
  /// is over the client's limits. After the last one the call is over. `encoded`: see
  /// `OutputBuffer.encodeFrame`.
  func respond(
    _ response: OutgoingResponse, encoded: EncodedMessage?, results: ResultBytes, isLast: Bool
  ) throws(StatusError) { preconditionFailure("a transport's") }

  /// Sends the only response, which has no payload.
  func respond(
    _ encode: (_ frames: OutputBuffer, _ stream: UInt32, _ messageBytesMax: UInt32)
      throws(StatusError)
      -> Void
  ) throws(StatusError) { preconditionFailure("a transport's") }

  /// Lets the client send so many requests more.
  func grantRequests(_ count: UInt32) { preconditionFailure("a transport's") }

  /// Requests that still come are dropped.
  func dropRequests() { preconditionFailure("a transport's") }

  /// Ends the call with an error. Nothing may touch its buffers any more.
  func end(_ error: StatusError) { preconditionFailure("a transport's") }

  /// `handler.memoryReleased` is to be called when memory has been released where there was no
  /// room; after `limits.wait_timeout` the call is cancelled.
  func waitForMemory(_ shortage: Shortage) { preconditionFailure("a transport's") }

  /// The call has its memory.
  func stopWaitingForMemory() { preconditionFailure("a transport's") }

  /// What small things of the call are charged to.
  var small: Unretained<SmallAccount> { preconditionFailure("a transport's") }
}

/// The bytes of results, where they lie: one behind the other, each piece at a multiple of 64, they
/// are a response's payload.
struct ResultBytes {
  /// The first `count` bytes of this, else of `small`.
  var buffer: PayloadBuffer?
  var small: UnsafeMutableRawPointer?
  var count = 0
  /// Then results that took an input's place in the request's payload.
  var pieces: [(offset: Int, count: Int)] = []
  var request: PayloadBuffer?
  /// All of it, gaps included.
  var total = 0
}

/// Where a request's payload goes.
enum Destination {
  case receive(UnsafeMutableRawPointer)
  /// No memory now, for which the call waits.
  case wait(Shortage)
  case refuse(StatusError)
}

/// A method's side of a call: gets requests, gives responses. One for each kind of method; reused
/// from call to call. Confined to the loop's thread.
///
/// For each request: `requestArriving`, `destination` where there is a payload, `requestComplete`.
class CallHandler {
  /// A new call begins; it stays alive until `end` or the last response.
  func begin(_ call: Call) {}

  /// A request's message, borrowed.
  func requestArriving(_ message: UnsafeRawBufferPointer) throws(StatusError) {}

  /// Where the payload of the request that is arriving goes, 64-byte-aligned.
  func destination(_ byteCount: Int) -> Destination {
    .refuse(StatusError(.invalidArgument, "a payload of \(byteCount) bytes, expected none"))
  }

  /// The request that is arriving cannot be taken: it breaks a limit or does not decode. What is
  /// still to come of it is dropped.
  func refuseRequest(_ error: StatusError) { cancel(error) }

  /// The request is whole. `isLast`: its END_STREAM was set.
  func requestComplete(isLast: Bool) {}

  /// No more requests, on a streaming method.
  func halfClosed() {}

  /// `call.responseCredit` has grown.
  func creditGranted() {}

  /// Memory has been released since `call.waitForMemory`.
  func memoryReleased() {}

  /// Stop the work; once nothing touches the call's buffers any more, `call.end(reason)`. What
  /// arrives from now on is dropped by the transport.
  func cancel(_ reason: StatusError) {}

  /// The daemon goes down and will not wait any longer: end at the next safe point.
  func drainExpired() {
    cancel(StatusError(.unavailable, "the daemon is shutting down"))
  }

  /// What the call does with the memory that it holds.
  var holding: Holding { .nothing }

  /// Complete requests whose memory is held until the client grants response credit.
  var isHoldingForCredit: Bool { false }
}

/// What a call does with the memory that it holds, for the search for those that keep memory from
/// others.
enum Holding {
  /// It holds nothing beyond what every call has.
  case nothing
  /// It is computed, or waits for memory itself: its end does not depend on its client.
  case working
  /// It waits for its client; `steps` counts what the client has done for it.
  case idle(steps: Int)
}
