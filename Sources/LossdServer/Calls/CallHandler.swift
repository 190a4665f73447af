import LossdTensor

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

  /// In place of `destination`, after `requestArriving`: the payload has come already, and lies in
  /// this buffer.
  func payloadArrived(_ buffer: PayloadBuffer, _ byteCount: Int) {}

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

  /// The daemon goes down. Calls have time to end.
  func drainBegan() {}

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
