import Glibc
import LossdEngine
import LossdHTTP
import LossdTensor
import LossdWire

// What comes on a stream: messages of five bytes and their own, wherever frames begin and end.
extension GRPCCall {
  private static let prefixBytes = 5

  func resetInput() {
    input = .prefix
    prefix = 0
    prefixCount = 0
    messageBytes = 0
    messageReceived = 0
    messageCount = 0
    giveMessage()
    giveHeld()
    isCollected = false
    hasMoreInflated = false
    isFeeding = false
    isRemoteClosed = false
    received = 0
    bodyBytesLeft = nil
  }

  /// Within a message, whose rest is the client's to send.
  var isMidMessage: Bool {
    if isDroppingRequests || hasEnded || !held.isEmpty || isRemoteClosed { return false }
    switch input {
    case .prefix: return prefixCount > 0
    case .waiting, .collected: return false
    case .whole, .parts, .compressed: return true
    }
  }

  func dataArrived(_ bytes: UnsafeRawBufferPointer) {
    received += bytes.count
    if let left = bodyBytesLeft {
      if UInt64(bytes.count) > left { return lengthBroken() }
      bodyBytesLeft = left - UInt64(bytes.count)
    }
    if isDroppingRequests || hasEnded { return }
    var used = 0
    if held.isEmpty {
      used = feed(bytes)
      consumed(used)
    }
    if used == bytes.count || isDroppingRequests || hasEnded { return }
    let rest = UnsafeRawBufferPointer(rebasing: bytes[used...])
    if let shortage = small.with({ $0.take(rest.count) }) {
      return refuse(
        StatusError(
          .resourceExhausted,
          "no memory now for what a request's message waits with: \(shortage.text)"))
    }
    held.append(rest)
  }

  private func lengthBroken() {
    session?.connection?.reset(stream, .protocolError)
    bodyBytesLeft = nil
    dropRequests()
  }

  /// The client may send as much again, unless the window is open for the whole message.
  private func consumed(_ count: Int) {
    if isStreamClosed { return }
    sessionReference?.with { session in
      session.connectionReference?.with { $0.consumed(stream, count) }
    }
  }

  /// END_STREAM.
  func inputEnded() {
    if isRemoteClosed { return }
    if let left = bodyBytesLeft, left > 0 { return lengthBroken() }
    isRemoteClosed = true
    if held.isEmpty && !isWaitingWithin { finishInput() }
  }

  private func finishInput() {
    if isDroppingRequests || hasEnded || isHalfClosed { return }
    if case .prefix = input, prefixCount == 0 {
      if messageCount == 0 && !method.isStreaming {
        return refuse(StatusError(.unimplemented, "no request came, of a method that takes one"))
      }
      isHalfClosed = true
      handler.with { handler in
        if method.isStreaming {
          handler.halfClosed()
        } else {
          handler.requestComplete(isLast: true)
        }
      }
    } else {
      refuse(StatusError(.internal, "the last message is cut short"))
    }
  }

  /// The request that is arriving is refused, and no more are taken.
  func refuse(_ error: StatusError) {
    if hasEnded || sessionReference == nil { return }
    dropInput()
    handler.object.refuseRequest(error)
  }

  /// Nothing more is taken of what comes: lets go of what has come.
  func dropInput() {
    dropRequests()
    stopWaitingForInput()
    // What is being taken ends by itself.
    if isFeeding { return }
    input = .prefix
    prefixCount = 0
    hasMoreInflated = false
    isCollected = false
    giveMessage()
    giveHeld()
  }

  /// Takes what has waited.
  func continueInput() {
    if isFeeding || isDroppingRequests || hasEnded || isStreamClosed { return }
    if case .waiting = input, !reserve() { return }
    if case .collected(let buffer) = input, !copyCollected(to: buffer) { return }
    if hasMoreInflated && held.isEmpty { _ = feed(UnsafeRawBufferPointer(start: nil, count: 0)) }
    while !held.isEmpty {
      // `feed` lets go of what is held when the call ends.
      let waiting = held
      let used = waiting.withBytes { feed($0) }
      if isDroppingRequests || hasEnded || sessionReference == nil { return }
      held.removeFirst(used)
      small.with { $0.give(used) }
      consumed(used)
      if used == 0 { return }
    }
    if isRemoteClosed && !isWaitingWithin { finishInput() }
  }

  /// Everything has come, and the call has still to do something with it.
  private var isWaitingWithin: Bool {
    switch input {
    case .waiting, .collected: true
    default: hasMoreInflated
    }
  }

  // MARK: - Messages

  /// Takes bytes, as many as it can now.
  private func feed(_ bytes: UnsafeRawBufferPointer) -> Int {
    isFeeding = true
    defer {
      isFeeding = false
      if sessionReference != nil, isDroppingRequests || hasEnded { dropInput() }
    }
    var index = 0
    while index < bytes.count || hasMoreInflated, !isDroppingRequests, !hasEnded,
      sessionReference != nil
    {
      do throws(StatusError) {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[index...])
        let used = try feedOnce(rest)
        if used == 0 { break }
        index += used
      } catch { refuse(error) }
    }
    return index
  }

  private func feedOnce(_ bytes: UnsafeRawBufferPointer) throws(StatusError) -> Int {
    if case .parts = input { return try takeParts(bytes) }
    switch input {
    case .prefix:
      if requestCredit == 0 || body.count >= GRPCCall.bodyBytesMax { return 0 }
      var used = 0
      while prefixCount < GRPCCall.prefixBytes && used < bytes.count {
        prefix = prefix << 8 | UInt64(bytes[used])
        prefixCount += 1
        used += 1
      }
      if prefixCount == GRPCCall.prefixBytes {
        let begun = prefix
        prefix = 0
        prefixCount = 0
        try messageBegins(
          flag: UInt8(truncatingIfNeeded: begun >> 32), Int(begun & 0xFFFF_FFFF),
          following: bytes.count - used)
      }
      return used
    case .whole:
      let missing = messageBytes - message.count
      if message.isEmpty && bytes.count >= missing {
        input = .prefix
        try messageArrived(UnsafeRawBufferPointer(rebasing: bytes[..<missing]))
        return missing
      }
      let part = min(missing, bytes.count)
      message.append(UnsafeRawBufferPointer(rebasing: bytes[..<part]))
      if part == missing {
        input = .prefix
        try arriveCollected()
      }
      return part
    case .waiting, .collected, .parts: return 0
    case .compressed(let inflater): return try inflate(bytes, inflater)
    }
  }

  /// Takes bytes of a request whose tensors go to their places. Nothing is counted: that would wait
  /// until what was copied before has been written.
  private func takeParts(_ bytes: UnsafeRawBufferPointer) throws(StatusError) -> Int {
    let part = min(messageBytes - messageReceived, bytes.count)
    try Unretained(splitter).with { (splitter) throws(StatusError) in
      try splitter.take(UnsafeRawBufferPointer(rebasing: bytes[..<part]))
    }
    messageReceived += part
    if messageReceived == messageBytes, case .parts(let buffer) = input {
      input = .prefix
      sessionReference?.with { $0.connection?.setWindow(stream, HTTP2Session.windowBytes) }
      try partsArrived(buffer)
    }
    return part
  }

  private func messageBegins(
    flag: UInt8, _ byteCount: Int, following: Int
  ) throws(StatusError) {
    if flag > 1 { throw StatusError(.internal, "a message's flag is \(flag), expected 0 or 1") }
    if flag == 1 && encoding == .identity {
      throw StatusError(.internal, "a message is compressed, and grpc-encoding does not say how")
    }
    if !method.isStreaming && messageCount > 0 {
      throw StatusError(.unimplemented, "a second request, of a method that takes one")
    }
    messageCount &+= 1
    requestCredit -= 1
    messageReceived = 0
    messageBytes = byteCount
    try checkSize(byteCount)
    if flag == 1 { return try beginInflating(byteCount) }
    if method.isEvaluating && byteCount > RequestParts.requestBytesMax {
      input = .waiting
      _ = reserve()
      return
    }
    if byteCount > following || !method.isEvaluating { try takeMessage(byteCount) }
    input = .whole
    if byteCount == 0 {
      input = .prefix
      try messageArrived(UnsafeRawBufferPointer(start: nil, count: 0))
    }
  }

  func checkSize(_ byteCount: Int) throws(StatusError) {
    let limits = session?.limits ?? context.limits
    if method.isEvaluating {
      if UInt64(byteCount) <= limits.payloadBytesMax { return }
      throw StatusError(
        .resourceExhausted,
        "the request has \(byteCount) bytes, over the limit of \(limits.payloadBytesMax) "
          + "(limits.payload_bytes)")
    }
    if byteCount <= Int(limits.messageBytesMax) { return }
    throw StatusError(
      .resourceExhausted,
      "the request has \(byteCount) bytes, over the limit of \(limits.messageBytesMax) "
        + "(limits.message_bytes)")
  }

  // MARK: - Messages that are decoded whole

  private func takeMessage(_ byteCount: Int) throws(StatusError) {
    if let shortage = small.with({ $0.take(byteCount) }) {
      throw StatusError(
        .resourceExhausted,
        "no memory now for a request of \(byteCount) bytes: \(shortage.text)")
    }
    messageCharged = byteCount
  }

  func giveMessage() {
    message.removeAll()
    if inflated.count > 0 { inflated.removeAll() }
    if messageCharged > 0 {
      small.with { $0.give(messageCharged) }
      messageCharged = 0
    }
  }

  private func giveHeld() {
    if held.isEmpty { return }
    small.with { $0.give(held.count) }
    held.removeAll()
  }

  func arriveCollected() throws(StatusError) {
    var failure: StatusError?
    // Not the call's any more: it may end meanwhile, and let go of what it has.
    let collected = message
    message = HeldBytes()
    collected.withBytes { bytes in
      do throws(StatusError) { try messageArrived(bytes) } catch { failure = error }
    }
    if sessionReference != nil { giveMessage() }
    if let failure { throw failure }
  }

  private func messageArrived(_ bytes: UnsafeRawBufferPointer) throws(StatusError) {
    if method.isEvaluating, let sessionReference {
      try sessionReference.with { (session) throws(StatusError) in
        // The loop's, for one request after another.
        let payload = session.partsPayload
        try session.splitter.with { (splitter) throws(StatusError) in
          splitter.begin(
            bytes.count, payload: payload, headBytesMax: Int(session.limits.messageBytesMax))
          try splitter.take(bytes)
          try splitter.finish()
          try handler.with { (handler) throws(StatusError) in
            try handler.requestArriving(splitter.head)
          }
          try take(payload, splitter.payloadBytes)
        }
      }
    } else {
      try handler.with { (handler) throws(StatusError) in try handler.requestArriving(bytes) }
    }
    messageEnded()
  }

  /// Copies a small request's tensors to where they are computed.
  private func take(_ payload: UnsafeRawPointer, _ byteCount: Int) throws(StatusError) {
    if byteCount == 0 { return }
    switch handler.with({ $0.destination(byteCount) }) {
    case .receive(let base): memcpy(base, payload, byteCount)
    case .refuse(let error): throw error
    case .wait(let shortage):
      throw StatusError(.resourceExhausted, "no memory now for a request: \(shortage.text)")
    }
  }

  private func messageEnded() {
    // A unary call's request is complete with its END_STREAM.
    if method.isStreaming && !hasEnded { handler.with { $0.requestComplete(isLast: false) } }
  }

  // MARK: - Requests whose tensors go to their places as they come

  /// Takes the memory of the request that begins; false: it waits for that.
  func reserve() -> Bool {
    if let done = tryToReserve() { return done }
    // First in line, then one more try, so that no release in between is missed.
    return tryToReserve() ?? false
  }

  /// nil: there is no room, and the call stands in line.
  private func tryToReserve() -> Bool? {
    guard let session, let inputWaiter else { return false }
    let bytes = messageBytes + RequestSplitter.paddingBytesMax
    // What has been decompressed is held until it has been copied.
    let all = bytes + (isCollected ? messageCharged : 0)
    if let budget = session.account.tooSmall(for: all) {
      refuse(
        StatusError(
          .resourceExhausted,
          "a request of \(messageBytes) bytes takes \(all), over the limit of \(budget.bytesMax) "
            + "bytes in flight (\(budget.setting))"))
      return false
    }
    if let shortage = session.account.reserve(bytes) {
      context.waits.wait(
        inputWaiter, session.share.user, shortage, timeout: context.limits.waitTimeout)
      return nil
    }
    stopWaitingForInput()
    let buffer: PayloadBuffer
    do throws(StatusError) {
      buffer = try PayloadBuffer(reserved: bytes, session.account, context.pool)
    } catch {
      session.account.release(bytes)
      refuse(error)
      return false
    }
    splitter.begin(
      messageBytes, payload: buffer.base, headBytesMax: Int(session.limits.messageBytesMax))
    if isCollected {
      isCollected = false
      input = .collected(buffer)
      return copyCollected(to: buffer)
    }
    input = .parts(buffer)
    // One WINDOW_UPDATE for all of it.
    if !isStreamClosed {
      session.connection?.setWindow(stream, messageBytes + HTTP2Session.windowBytes)
    }
    return true
  }

  func stopWaitingForInput() {
    if let inputWaiter, inputWaiter.isTimed { context.waits.cancel(inputWaiter) }
  }

  func partsArrived(_ buffer: PayloadBuffer) throws(StatusError) {
    try splitter.finish()
    try handler.with { (handler) throws(StatusError) in try handler.requestArriving(splitter.head) }
    handler.with { $0.payloadArrived(buffer, splitter.payloadBytes) }
    messageEnded()
  }
}
