/// Frames of the connection and of call control.
extension OutputBuffer {
  /// The client's first eight bytes.
  public func encodePreface() {
    var text = preface
    text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  public func encodeFrame(hello: HelloMessage) {
    defer { scratch.reset() }
    appendFrame(FrameHeader(type: .hello), packing: hello.build(scratch))
  }

  /// - Parameters:
  ///   - method: gRPC path, `/lossd.v1.Evaluator/Evaluate`.
  ///   - timeoutMicroseconds: 0: none.
  ///   - credit: response messages that will be taken; 0: no limit.
  public func encodeFrame(
    open method: String, stream: UInt32, timeoutMicroseconds: UInt64 = 0, credit: UInt32 = 0,
    metadata: [Metadatum] = []
  ) {
    defer { scratch.reset() }
    let message = OpenMessage.build(
      scratch, method, timeoutMicroseconds, credit, metadata)
    appendFrame(FrameHeader(type: .open, streamID: stream), packing: message)
  }

  /// Ends a call. The code of `status` is not 0.
  public func encodeFrame(status: StatusMessage, stream: UInt32) {
    defer { scratch.reset() }
    appendFrame(FrameHeader(type: .status, streamID: stream), packing: status.build(scratch))
  }

  public func encodeFrame(cancel stream: UInt32) {
    appendFrame(FrameHeader(type: .cancel, streamID: stream))
  }

  /// `messages` is at least 1.
  public func encodeFrame(credit messages: UInt32, stream: UInt32) {
    defer { scratch.reset() }
    appendFrame(
      FrameHeader(type: .credit, streamID: stream),
      packing: CreditMessage(messages: messages).build(scratch))
  }

  /// At most 64 bytes.
  public func encodeFrame(ping bytes: UnsafeRawBufferPointer) {
    precondition(bytes.count <= FrameRules.maxPingBytes)
    appendFrame(FrameHeader(type: .ping), bytes)
  }

  /// The answer to a PING of these bytes.
  public func encodeFrame(pingAck bytes: UnsafeRawBufferPointer) {
    precondition(bytes.count <= FrameRules.maxPingBytes)
    appendFrame(FrameHeader(type: .ping, flags: .ack), bytes)
  }

  public func encodeFrame(goAway: GoAwayMessage) {
    defer { scratch.reset() }
    appendFrame(FrameHeader(type: .goAway), packing: goAway.build(scratch))
  }

  /// A bare half-close: a streaming call's client has no more requests.
  public func encodeFrame(halfClose stream: UInt32) {
    appendFrame(FrameHeader(type: .message, streamID: stream, flags: .endStream))
  }

  public func encodeFrame(region: RegionMessage) {
    defer { scratch.reset() }
    appendFrame(FrameHeader(type: .region), packing: region.build(scratch))
  }

  public func encodeFrame(release region: UInt64) {
    defer { scratch.reset() }
    appendFrame(
      FrameHeader(type: .release), packing: RegionMessage(region: region).build(scratch))
  }

  /// The answer to a REGION, or with `releasing` to a RELEASE.
  public func encodeFrame(regionResult: RegionResultMessage, releasing: Bool) {
    defer { scratch.reset() }
    appendFrame(
      FrameHeader(type: releasing ? .release : .region), packing: regionResult.build(scratch))
  }

  /// A MESSAGE whose message is packed already; the payload of `payloadLength` bytes goes out after
  /// it.
  public func encodeFrame(
    message: UnsafeRawBufferPointer, stream: UInt32, endStream: Bool, payloadLength: UInt32 = 0
  ) {
    let header = FrameHeader(
      type: .message, streamID: stream, flags: endStream ? .endStream : [],
      payloadLength: payloadLength)
    appendFrame(header, message)
  }
}
