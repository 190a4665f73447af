import CNGHTTP2
import Glibc

/// The server's side of one HTTP/2 connection, after the client's 24 bytes of preface: takes bytes,
/// makes bytes, and tells its sink what has come. Rules of frames, streams, windows and HPACK are
/// nghttp2's; what a request means is the sink's. Confined to one thread at a time.
///
/// Whoever owns the connection owns the sink, and both as long.
public final class HTTP2Connection {
  /// What each side sends first; a client begins with these bytes.
  public static let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

  /// What the client is told at the beginning.
  public struct Settings: Sendable {
    /// Streams open at once. It is the sink that refuses those beyond.
    public var streamsMax: UInt32 = 256
    /// Bytes that a client may send on a new stream.
    public var windowBytes: UInt32 = 256 << 10
    public var frameBytesMax: UInt32 = 1 << 20
    public var headerBytesMax: UInt32 = 16 << 10

    public init() {}
  }

  /// CONTINUATION frames of one header block.
  private static let continuationsMax = 8
  /// Streams that the client may reset: so many at once, and so many a second. Clients whose
  /// deadlines pass reset honestly.
  private static let resets = (burst: UInt64(10_000), rate: UInt64(1_000))
  /// ACKs of PING and SETTINGS that wait to be sent.
  private static let acknowledgementsMax = 1_000
  /// The connection's own window is never what holds a client back.
  private static let connectionWindow: Int32 = 1 << 30
  /// What nghttp2 may allocate for one connection.
  private static let memoryBytesMax = 32 << 20
  static let bodyBytesMax = 256 << 10

  /// nghttp2 ends the connection of a client that opens more streams than it was told, where the
  /// stream alone may be refused (RFC 9113, 5.1.2), and tried again. So nghttp2 is told that there
  /// is no limit, its SETTINGS get the real one on their way, and the sink counts.
  private static let streamsUnlimited = UInt32(Int32.max)
  private let streamsMax: UInt32
  private var hasToldSettings = false

  let session: OpaquePointer
  let sink: Unmanaged<HTTP2Sink>
  let memory = CountedMemory(bytesMax: HTTP2Connection.memoryBytesMax)
  private var frameWalk = FrameWalk()
  /// The sink is being told something: neither `receive` nor `produce` may be called.
  public private(set) var isTelling = false
  /// The sink wants no more.
  var isStopped = false
  /// A header block has begun and is not whole yet: its stream, else 0.
  public internal(set) var headersUnderWay: Int32 = 0
  /// The client has sent GOAWAY: it closes, or is closed to, after its last stream.
  public internal(set) var isPeerLeaving = false
  /// The client has sent its SETTINGS.
  public internal(set) var hasSettings = false

  /// Calls `body` with the sink, uncounted.
  @inline(__always)
  func withSink<Result>(_ body: (HTTP2Sink) -> Result) -> Result {
    sink._withUnsafeGuaranteedRef(body)
  }

  /// nil: there is no memory.
  public init?(_ sink: HTTP2Sink, _ settings: Settings = Settings()) {
    self.sink = .passUnretained(sink)
    streamsMax = settings.streamsMax
    var options: OpaquePointer?
    guard nghttp2_option_new(&options) == 0, let options else { return nil }
    defer { nghttp2_option_del(options) }
    nghttp2_option_set_no_recv_client_magic(options, 1)
    nghttp2_option_set_no_auto_window_update(options, 1)
    // Rules of requests are the sink's: nghttp2 refuses what clients send for Unix sockets.
    nghttp2_option_set_no_http_messaging(options, 1)
    nghttp2_option_set_no_closed_streams(options, 1)
    nghttp2_option_set_server_fallback_rfc7540_priorities(options, 0)
    nghttp2_option_set_max_outbound_ack(options, HTTP2Connection.acknowledgementsMax)
    nghttp2_option_set_stream_reset_rate_limit(
      options, HTTP2Connection.resets.burst, HTTP2Connection.resets.rate)
    nghttp2_option_set_max_continuations(options, HTTP2Connection.continuationsMax)
    guard let callbacks = HTTP2Connection.makeCallbacks() else { return nil }
    defer { nghttp2_session_callbacks_del(callbacks) }
    var made: OpaquePointer?
    let box = UnsafeMutablePointer<Unmanaged<HTTP2Connection>?>.allocate(capacity: 1)
    box.initialize(to: nil)
    var functions = memory.functions
    guard nghttp2_session_server_new3(&made, callbacks, box, options, &functions) == 0, let made
    else {
      box.deallocate()
      return nil
    }
    session = made
    self.box = box
    box.pointee = .passUnretained(self)
    var entries = [
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue),
        value: HTTP2Connection.streamsUnlimited),
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue),
        value: settings.windowBytes),
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_MAX_FRAME_SIZE.rawValue),
        value: settings.frameBytesMax),
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE.rawValue),
        value: settings.headerBytesMax),
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES.rawValue), value: 1),
    ]
    if nghttp2_submit_settings(made, 0, &entries, entries.count) != 0 { return nil }
    nghttp2_session_set_local_window_size(made, 0, 0, HTTP2Connection.connectionWindow)
  }

  /// What nghttp2's callbacks get: where this object is.
  private let box: UnsafeMutablePointer<Unmanaged<HTTP2Connection>?>

  deinit {
    nghttp2_session_del(session)
    box.deallocate()
  }

  /// Memory that the connection takes, bytes.
  public var heldBytes: Int { memory.bytes }

  // MARK: - Bytes

  /// Takes all of these bytes. What is wrong with them; nil: nothing.
  public func receive(_ bytes: UnsafeRawBufferPointer) -> HTTP2Failure? {
    precondition(!isTelling, "bytes while others are being taken")
    isTelling = true
    defer { isTelling = false }
    frameWalk.walk(bytes) { kind in withSink { $0.controlArrived(kind) } }
    if isStopped { return HTTP2Failure(code: .noError, text: "") }
    let count = nghttp2_session_mem_recv(
      session, bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count)
    if isStopped { return HTTP2Failure(code: .noError, text: "") }
    if count < 0 { return HTTP2Failure(Int32(truncatingIfNeeded: count)) }
    return nil
  }

  /// The sink wants no more of the bytes that are being taken.
  public func stop() { isStopped = true }

  /// Makes frames to be sent: `append` gets the bytes of one, which are borrowed; parts of bodies
  /// go to the sink, as many before that one as it takes. False: there is nothing more to be sent
  /// now, or no room for it.
  public func produce(_ append: (UnsafeRawBufferPointer) -> Void) -> Bool {
    precondition(!isTelling, "bytes are made while others are being taken")
    isTelling = true
    defer { isTelling = false }
    var bytes: UnsafePointer<UInt8>?
    let count = nghttp2_session_mem_send(session, &bytes)
    guard count > 0 else {
      if count < 0 { isBroken = true }
      return false
    }
    let frame = UnsafeRawBufferPointer(start: bytes, count: count)
    if hasToldSettings { append(frame) } else { tellSettings(frame, append) }
    return true
  }

  /// Sends the first frame, nghttp2's SETTINGS, with the real number of streams, their first entry.
  private func tellSettings(
    _ frame: UnsafeRawBufferPointer, _ append: (UnsafeRawBufferPointer) -> Void
  ) {
    hasToldSettings = true
    var frame = Array(frame)
    let entry = [0, UInt8(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue)]
    let begin = 9
    let value = begin + entry.count
    if frame[3] == UInt8(NGHTTP2_SETTINGS.rawValue) && Array(frame[begin..<value]) == entry {
      frame.replaceSubrange(value..<value + 4, with: HTTP2Connection.bigEndian(streamsMax))
    }
    frame.withUnsafeBytes(append)
  }

  /// nghttp2 has no memory or has failed otherwise: the connection is to be closed.
  public private(set) var isBroken = false

  /// nghttp2 has found that the client breaks the rules, and has made a GOAWAY that says so:
  /// nothing more is to be received or made.
  public internal(set) var hasFailed = false

  public var wantsToSend: Bool { nghttp2_session_want_write(session) != 0 }

  /// Frames that wait to be sent, other than bodies.
  public var queuedFrames: Int { nghttp2_session_get_outbound_queue_size(session) }

  // MARK: - Windows

  /// Bytes of a stream have been taken: the client may send as many more. The connection's window
  /// is given back by itself.
  public func consumed(_ stream: Int32, _ count: Int) {
    if count > 0 { nghttp2_session_consume_stream(session, stream, count) }
  }

  /// The client may send so many bytes on the stream beyond those that have been consumed.
  public func setWindow(_ stream: Int32, _ bytes: Int) {
    nghttp2_session_set_local_window_size(session, 0, stream, Int32(clamping: bytes))
  }

  // MARK: - Streams

  /// The stream's own pointer, which the sink gets with what concerns the stream.
  public func setContext(_ stream: Int32, _ context: UnsafeMutableRawPointer?) {
    nghttp2_session_set_stream_user_data(session, stream, context)
  }

  public func reset(_ stream: Int32, _ code: HTTP2ErrorCode) {
    nghttp2_submit_rst_stream(session, 0, stream, code.rawValue)
  }

  /// More of the stream's body is there.
  public func resume(_ stream: Int32) { nghttp2_session_resume_data(session, stream) }

  /// Two steps to the end: this says that the connection will end, and then asks with a PING
  /// whether the client knows.
  public func announceEnd() { nghttp2_submit_shutdown_notice(session) }

  /// No stream after those that have come is taken any more.
  public func refuseStreams() {
    nghttp2_submit_goaway(
      session, 0, nghttp2_session_get_last_proc_stream_id(session),
      HTTP2ErrorCode.noError.rawValue, nil, 0)
  }

  public var lastStream: Int32 { nghttp2_session_get_last_proc_stream_id(session) }

  /// A GOAWAY frame. Of the text as much as clients show.
  public static func goAway(
    lastStream: Int32, _ code: HTTP2ErrorCode, _ text: String
  ) -> [UInt8] {
    let debug = Array(text.utf8.prefix(1024))
    let length = 8 + debug.count
    return [UInt8(length >> 16), UInt8(length >> 8 & 0xFF), UInt8(length & 0xFF), 7, 0, 0, 0, 0, 0]
      + bigEndian(UInt32(bitPattern: lastStream)) + bigEndian(code.rawValue) + debug
  }

  private static func bigEndian(_ value: UInt32) -> [UInt8] {
    [UInt8(value >> 24), UInt8(value >> 16 & 0xFF), UInt8(value >> 8 & 0xFF), UInt8(value & 0xFF)]
  }
}

/// Why a connection ends.
public struct HTTP2Failure: Sendable {
  public let code: HTTP2ErrorCode
  public let text: String

  init(code: HTTP2ErrorCode, text: String) {
    self.code = code
    self.text = text
  }

  init(_ error: Int32) {
    text = String(cString: nghttp2_strerror(error))
    switch error {
    case NGHTTP2_ERR_FLOODED.rawValue: code = .enhanceYourCalm
    case NGHTTP2_ERR_NOMEM.rawValue: code = .enhanceYourCalm
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC.rawValue: code = .protocolError
    default: code = .protocolError
    }
  }
}
