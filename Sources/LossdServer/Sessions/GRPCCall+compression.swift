import LossdEngine
import LossdHTTP
import LossdTensor
import LossdWire

// Compressed messages: decompressed as they come, a bounded part of a turn, up to a bound. Tensors
// hardly compress, so that big ones come as they are.
extension GRPCCall {
  /// What one turn of a call decompresses.
  private static let turnBytes = 128 << 10
  /// What a compressed message may become: it is copied once more, on the loop.
  private static let inflatedBytesMax = 8 << 20
  /// Memory is charged in such steps.
  private static let stepBytes = 16 << 10

  func beginInflating(_ byteCount: Int) throws(StatusError) {
    if byteCount == 0 { throw StatusError(.internal, "a compressed message is empty") }
    try charge(Inflater.heldBytes)
    input = .compressed(try Inflater(encoding))
  }

  private func charge(_ bytes: Int) throws(StatusError) {
    if let shortage = small.with({ $0.take(bytes) }) {
      throw StatusError(
        .resourceExhausted, "no memory now for a compressed request: \(shortage.text)")
    }
    messageCharged += bytes
  }

  /// Takes compressed bytes. Where there is more of the message than a turn's share, the call goes
  /// on later.
  func inflate(
    _ bytes: UnsafeRawBufferPointer, _ inflater: Inflater
  ) throws(StatusError) -> Int {
    let limits = session?.limits ?? context.limits
    let limit =
      method.isEvaluating
      ? min(Int(clamping: limits.payloadBytesMax), GRPCCall.inflatedBytesMax)
      : Int(limits.messageBytesMax)
    var used = 0
    var made = 0
    while !inflater.isDone {
      if made >= GRPCCall.turnBytes {
        hasMoreInflated = true
        session?.continueLater(self)
        return used
      }
      let part = min(messageBytes - messageReceived, bytes.count - used)
      let step = try inflateOnce(
        UnsafeRawBufferPointer(rebasing: bytes[used..<used + part]), inflater)
      used += step.used
      messageReceived += step.used
      made += step.made
      if message.count > limit {
        throw StatusError(
          .resourceExhausted,
          "a compressed request has over \(limit) bytes when it is decompressed, the most there "
            + "may be; send big tensors uncompressed")
      }
      if step.made < GRPCCall.stepBytes && used == bytes.count && !inflater.isDone {
        if messageReceived == messageBytes {
          throw StatusError(.internal, "a compressed message is cut short")
        }
        hasMoreInflated = false
        return used
      }
      if step.used == 0 && step.made == 0 && !inflater.isDone {
        throw StatusError(.internal, "a compressed message does not decompress")
      }
    }
    hasMoreInflated = false
    if messageReceived < messageBytes {
      throw StatusError(.internal, "bytes follow a compressed message")
    }
    try inflated()
    return used
  }

  private func inflateOnce(
    _ bytes: UnsafeRawBufferPointer, _ inflater: Inflater
  ) throws(StatusError) -> (used: Int, made: Int) {
    try charge(GRPCCall.stepBytes)
    var failure: StatusError?
    let step = withUnsafeTemporaryAllocation(byteCount: GRPCCall.stepBytes, alignment: 16) {
      output -> (used: Int, made: Int) in
      do throws(StatusError) {
        let step = try inflater.inflate(bytes, into: output)
        message.append(UnsafeRawBufferPointer(rebasing: output[..<step.made]))
        return step
      } catch {
        failure = error
        return (0, 0)
      }
    }
    if let failure { throw failure }
    let rest = GRPCCall.stepBytes - step.made
    messageCharged -= rest
    small.with { $0.give(rest) }
    return step
  }

  /// The message is whole, and decompressed.
  private func inflated() throws(StatusError) {
    input = .prefix
    if !method.isEvaluating || message.count <= RequestParts.requestBytesMax {
      return try arriveCollected()
    }
    messageBytes = message.count
    isCollected = true
    input = .waiting
    _ = reserve()
  }

  /// The collected message has its buffer.
  func collectedReserved(_ buffer: PayloadBuffer) {
    isCollected = false
    input = .prefix
    var failure: StatusError?
    message.withBytes { bytes in
      do throws(StatusError) { try splitter.take(bytes) } catch { failure = error }
    }
    giveMessage()
    do throws(StatusError) {
      if let failure { throw failure }
      try partsArrived(buffer)
    } catch { refuse(error) }
  }
}
