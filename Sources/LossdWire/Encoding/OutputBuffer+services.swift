import LossdTensor

/// The messages of ListFunctions and GetStatus, each as one whole MESSAGE with END_STREAM.
/// RESOURCE_EXHAUSTED when the message has more bytes than `maxMessageBytes`; nothing is added
/// then.
extension OutputBuffer {
  public func encodeFrame(
    listFunctions request: ListFunctionsRequest, stream: UInt32, maxMessageBytes: UInt32 = .max
  ) throws(StatusError) {
    defer { scratch.reset() }
    try appendFrame(last(stream), packing: request.build(scratch), atMost: maxMessageBytes)
  }

  public func encodeFrame(
    functions response: ListFunctionsResponse, stream: UInt32, maxMessageBytes: UInt32 = .max
  ) throws(StatusError) {
    defer { scratch.reset() }
    try appendFrame(last(stream), packing: response.build(scratch), atMost: maxMessageBytes)
  }

  /// A GetStatusRequest has no fields: on this unary method an empty MESSAGE is the request.
  public func encodeFrame(getStatus stream: UInt32) {
    encodeFrame(halfClose: stream)
  }

  public func encodeFrame(
    daemonStatus response: GetStatusResponse, stream: UInt32, maxMessageBytes: UInt32 = .max
  ) throws(StatusError) {
    defer { scratch.reset() }
    try appendFrame(last(stream), packing: response.build(scratch), atMost: maxMessageBytes)
  }

  /// The message alone, for transports with frames of their own.
  public func encodeMessage(functions response: ListFunctionsResponse) {
    defer { scratch.reset() }
    appendMessage(response.build(scratch))
  }

  /// The message alone, for transports with frames of their own.
  public func encodeMessage(daemonStatus response: GetStatusResponse) {
    defer { scratch.reset() }
    appendMessage(response.build(scratch))
  }

  private func last(_ stream: UInt32) -> FrameHeader {
    FrameHeader(type: .message, streamID: stream, flags: .endStream)
  }
}
