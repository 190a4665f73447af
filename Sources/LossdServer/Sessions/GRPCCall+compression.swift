import LossdEngine
import LossdHTTP
import LossdTensor
import LossdWire

// Compressed messages: decompressed as they come, and copied to where they belong, a bounded part
// of a turn.
extension GRPCCall {
  /// What one turn of a call decompresses.
  private static let turnBytes = 128 << 10
  /// What one turn of a call copies.
  private static let copiedBytes = 1 << 20
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
      method.isEvaluating ? Int(clamping: limits.payloadBytesMax) : Int(limits.messageBytesMax)
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
      if inflated.count > limit {
        throw StatusError(
          .resourceExhausted,
          "a compressed request has over \(limit) bytes when it is decompressed, the limit of "
            + (method.isEvaluating ? "limits.payload_bytes" : "limits.message_bytes"))
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
    try messageInflated()
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
        guard inflated.append(UnsafeRawBufferPointer(rebasing: output[..<step.made])) else {
          throw StatusError(.resourceExhausted, "no memory now for a compressed request")
        }
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
  private func messageInflated() throws(StatusError) {
    input = .prefix
    if !method.isEvaluating || inflated.count <= RequestParts.requestBytesMax {
      while inflated.count > 0 { inflated.takeFirst { message.append($0) } }
      return try arriveCollected()
    }
    messageBytes = inflated.count
    isCollected = true
    input = .waiting
    _ = reserve()
  }

  /// Copies a turn's share of the decompressed message to its buffer. Where more is left, the call
  /// goes on later; whether nothing is.
  func copyCollected(to buffer: PayloadBuffer) -> Bool {
    do throws(StatusError) {
      var failure: StatusError?
      let rest = max(inflated.count - GRPCCall.copiedBytes, 0)
      while inflated.count > rest, failure == nil {
        inflated.takeFirst { bytes in
          do throws(StatusError) { try splitter.take(bytes) } catch { failure = error }
        }
      }
      if let failure { throw failure }
      if inflated.count > 0 {
        session?.continueLater(self)
        return false
      }
      giveMessage()
      input = .prefix
      try partsArrived(buffer)
    } catch { refuse(error) }
    return true
  }
}
