// LossdHTTP: HTTP/2 and gRPC's format as bytes in, bytes out and events, by nghttp2. It knows no
// socket, no clock, no function and no message of lossd's.

/// What an `HTTP2Connection` tells its owner, while it receives bytes or makes bytes. None of these
/// may call `receive` or `produce`.
///
/// A class and no protocol: a class is called without being counted, some 20 times a call.
open class HTTP2Sink {
  public init() {}

  /// A header block of a request begins; its fields follow by `header`.
  open func headersBegan(_ stream: Int32) { HTTP2Sink.missing() }

  /// A field, borrowed. False: no more fields of this block are wanted.
  open func header(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    HTTP2Sink.missing()
  }

  /// The block of a request is whole. `isLast`: nothing follows it.
  open func headersArrived(_ stream: Int32, isLast: Bool) { HTTP2Sink.missing() }

  /// A block of trailers is whole.
  open func trailersArrived(_ stream: Int32, isLast: Bool) { HTTP2Sink.missing() }

  /// A part of a request's body, borrowed. `context` is the stream's.
  open func dataArrived(
    _ stream: Int32, _ context: UnsafeMutableRawPointer?, _ bytes: UnsafeRawBufferPointer
  ) { HTTP2Sink.missing() }

  /// The request's body has ended.
  open func dataEnded(_ stream: Int32, _ context: UnsafeMutableRawPointer?) { HTTP2Sink.missing() }

  /// The stream is over, however it ended. `code` is the RST_STREAM's, or 0.
  open func streamClosed(_ stream: Int32, _ context: UnsafeMutableRawPointer?, code: UInt32) {
    HTTP2Sink.missing()
  }

  /// A frame that takes its sender little and its receiver some work.
  open func controlArrived(_ kind: HTTP2Control) { HTTP2Sink.missing() }

  /// The client's first SETTINGS have come.
  open func settingsArrived() { HTTP2Sink.missing() }

  /// A PING of ours has come back.
  open func pingAcknowledged() { HTTP2Sink.missing() }

  /// How many bytes of the stream's answer may go now, at most `length`, and whether that is all.
  /// 0 and not the end: none now; `HTTP2Connection.resume` goes on.
  open func bodyNeeded(_ context: UnsafeMutableRawPointer, length: Int) -> (count: Int, isEnd: Bool)
  { HTTP2Sink.missing() }

  /// After `bodyNeeded` had the end: the trailers are to be submitted now.
  open func bodyEnded(_ stream: Int32, _ context: UnsafeMutableRawPointer) { HTTP2Sink.missing() }

  /// The next `count` bytes of the stream's answer are to be queued behind these 9 of a frame.
  /// False: there is no room for them now, and the next `produce` asks again.
  open func sendBody(
    _ context: UnsafeMutableRawPointer, header: UnsafeRawBufferPointer, count: Int
  ) -> Bool { HTTP2Sink.missing() }

  /// A frame with END_STREAM has been made, before the request's body had ended.
  open func answeredEarly(_ stream: Int32) { HTTP2Sink.missing() }

  private static func missing() -> Never { preconditionFailure("every sink has its own") }
}

/// Frames that a peer could send without end.
public enum HTTP2Control: Sendable {
  case ping, settings, priority, windowUpdate, emptyData, reset, invalid, unknown, ourReset
  case headers, acknowledgement, goAway
}

/// HTTP/2's error codes.
public enum HTTP2ErrorCode: UInt32, Sendable {
  case noError = 0
  case protocolError = 1
  case internalError = 2
  case flowControlError = 3
  case frameSizeError = 6
  case refusedStream = 7
  case cancel = 8
  case enhanceYourCalm = 11
}
