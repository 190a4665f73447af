// LossdHTTP: HTTP/2 and gRPC's format as bytes in, bytes out and events, by nghttp2. It knows no
// socket, no clock, no function and no message of lossd's.

/// What an `HTTP2Connection` tells its owner, while it receives bytes or makes bytes. None of these
/// may call `receive` or `produce`.
public protocol HTTP2Sink: AnyObject {
  /// A header block of a request begins; its fields follow by `header`.
  func headersBegan(_ stream: Int32)

  /// A field, borrowed. False: no more fields of this block are wanted.
  func header(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer)

  /// The block of a request is whole. `isLast`: nothing follows it.
  func headersArrived(_ stream: Int32, isLast: Bool)

  /// A block of trailers is whole.
  func trailersArrived(_ stream: Int32, isLast: Bool)

  /// A part of a request's body, borrowed. `context` is the stream's.
  func dataArrived(
    _ stream: Int32, _ context: UnsafeMutableRawPointer?, _ bytes: UnsafeRawBufferPointer)

  /// The request's body has ended.
  func dataEnded(_ stream: Int32, _ context: UnsafeMutableRawPointer?)

  /// The stream is over, however it ended. `code` is the RST_STREAM's, or 0.
  func streamClosed(_ stream: Int32, _ context: UnsafeMutableRawPointer?, code: UInt32)

  /// A frame that takes its sender little and its receiver some work.
  func controlArrived(_ kind: HTTP2Control)

  /// The client's first SETTINGS have come.
  func settingsArrived()

  /// A PING of ours has come back.
  func pingAcknowledged()

  /// How many bytes of the stream's answer may go now, at most `length`, and whether that is all.
  /// 0 and not the end: none now; `HTTP2Connection.resume` goes on.
  func bodyNeeded(_ context: UnsafeMutableRawPointer, length: Int) -> (count: Int, isEnd: Bool)

  /// After `bodyNeeded` had the end: the trailers are to be submitted now.
  func bodyEnded(_ stream: Int32, _ context: UnsafeMutableRawPointer)

  /// The next `count` bytes of the stream's answer are to be queued behind these 9 of a frame.
  /// False: there is no room for them now, and the next `produce` asks again.
  func sendBody(
    _ context: UnsafeMutableRawPointer, header: UnsafeRawBufferPointer, count: Int
  ) -> Bool

  /// A frame with END_STREAM has been made, before the request's body had ended.
  func answeredEarly(_ stream: Int32)
}

/// Frames that a peer could send without end.
public enum HTTP2Control: Sendable {
  case ping, settings, priority, windowUpdate, emptyData, reset, invalid, unknown, ourReset
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
