import LossdEngine
import LossdTensor
import LossdWire

// Memory for what comes: charging messages, and where payloads go, or what they wait for.
extension LossdSession {
  /// Charges memory for a message that is about to come and is longer than the buffer that every
  /// session has. Returns the budget that has no room, or nil.
  func reserveMessage(_ header: FrameHeader) -> Shortage? {
    if Int(header.messageLength) <= FrameDecoder.retainedBytes { return nil }
    return channel.reserveHeld(FrameDecoder.heldBytesMax(Int(header.messageLength)))
  }

  func payloadDestination(_ header: FrameHeader) -> PayloadDisposition {
    streams[header.streamID]?.with { payloadDestination(header, $0) } ?? .drop
  }

  private func payloadDestination(
    _ header: FrameHeader, _ call: StreamCall
  ) -> PayloadDisposition {
    if call.isDroppingRequests { return .drop }
    let result: PayloadDisposition
    switch call.handler.with({ $0.destination(Int(header.payloadLength)) }) {
    case .receive(let base): result = .receive(base)
    case .refuse(let error):
      call.dropRequests()
      call.handler.object.refuseRequest(error)
      result = .drop
    case .wait(let shortage):
      return waitForPayload(header, call, shortage)
    }
    stopWaitingForPayload()
    return result
  }

  private func waitForPayload(
    _ header: FrameHeader, _ call: StreamCall, _ shortage: Shortage
  ) -> PayloadDisposition {
    let byteCount = Int(header.payloadLength)
    if streams.contains(where: { $0.handler.object.isHoldingForCredit }) {
      stopWaitingForPayload()
      // A connection that stops reading would not see the CREDIT that could free memory.
      call.dropRequests()
      call.handler.object.refuseRequest(
        StatusError(
          .resourceExhausted,
          "no memory for a payload of \(byteCount) bytes while requests wait for response credit: "
            + shortage.text))
      return .drop
    }
    // First into the line, then one more try, so that no release in between is missed.
    waitForPayload(shortage)
    switch call.handler.with({ $0.destination(byteCount) }) {
    case .receive(let base):
      stopWaitingForPayload()
      return .receive(base)
    case .refuse(let error):
      stopWaitingForPayload()
      call.dropRequests()
      call.handler.object.refuseRequest(error)
      return .drop
    case .wait(let shortage):
      waitForPayload(shortage)
      return .wait
    }
  }

  /// There is no room yet for the payload that comes next. The payload is not read until there is.
  private func waitForPayload(_ shortage: Shortage) {
    guard let payloadWaiter else { return }
    context.waits.wait(
      payloadWaiter, share.user, shortage, timeout: context.limits.waitTimeout)
  }

  func stopWaitingForPayload() {
    if let payloadWaiter, payloadWaiter.isTimed { context.waits.cancel(payloadWaiter) }
  }

  func payloadTimedOut(_ reason: String) {
    guard decoder.isWaiting, let header = decoder.currentHeader,
      let call = streams[header.streamID]?.object
    else { return }
    call.dropRequests()
    call.handler.object.refuseRequest(
      context.memoryTimedOut("a payload of \(header.payloadLength) bytes", reason))
    channel.resume()
  }
}
