import LossdTensor

/// The fields of one request, as gRPC over HTTP/2 wants them (its PROTOCOL-HTTP2.md and RFC 9113).
/// One for a connection: blocks of fields do not overlap. Confined to one thread at a time.
public final class GRPCRequestHead {
  /// What the fields come to.
  public enum Verdict: Equatable {
    /// It is a call.
    case call
    /// It is no request by HTTP's rules: RST_STREAM with PROTOCOL_ERROR.
    case malformed
    /// It is a request, and none of gRPC: an answer of this status.
    case http(status: UInt16)
    /// It is a call that ends at once.
    case refused(StatusCode, String)
  }

  /// How messages are compressed whose flag says so.
  public enum Encoding: Sendable, Equatable {
    case identity, gzip, deflate
  }

  /// Fields of more bytes, each counted with 32 more than its name and value, refuse the call.
  public static let bytesMax = 16 << 10
  /// A block that goes on for so long is an attack.
  public static let floodBytes = 1 << 20

  private let pathText = FixedText(bytesMax: 1024)
  private let timeoutText = FixedText(bytesMax: 16)
  private let traceText = FixedText(bytesMax: 64)
  private var hasMethod = false
  private var isPost = false
  private var hasScheme = false
  private var hasAuthority = false
  private var hasHost = false
  private var hasContentType = false
  private var isGRPC = false
  private var isMalformed = false
  private var hasRegular = false
  /// nil: one that is not known.
  private var knownEncoding: Encoding? = .identity
  private var hasEncoding = false
  /// All fields so far.
  public private(set) var byteCount = 0
  /// As `content-length` says; nil: it does not.
  public private(set) var contentLength: UInt64?

  public init() {}

  /// The next request's fields follow.
  public func begin() {
    pathText.clear()
    timeoutText.clear()
    if traceText.isSet { traceText.clear() }
    hasMethod = false
    isPost = false
    hasScheme = false
    hasAuthority = false
    hasHost = false
    hasContentType = false
    isGRPC = false
    isMalformed = false
    hasRegular = false
    knownEncoding = .identity
    hasEncoding = false
    byteCount = 0
    contentLength = nil
  }

  public var path: UnsafeRawBufferPointer { pathText.bytes }
  public var encoding: Encoding { knownEncoding ?? .identity }

  /// W3C's `traceparent`; empty: none, or none that has its form.
  public var traceParent: UnsafeRawBufferPointer {
    GRPCRequestHead.isTraceParent(traceText.bytes) && !traceText.isCut
      ? traceText.bytes : UnsafeRawBufferPointer(start: nil, count: 0)
  }

  /// Nanoseconds; nil: there is no limit.
  public private(set) var timeout: UInt64?

  // MARK: - Fields

  public func add(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    byteCount += name.count + value.count + 32
    if byteCount > GRPCRequestHead.bytesMax || isMalformed { return }
    guard let first = name.first, isField(value) else {
      isMalformed = true
      return
    }
    if first == UInt8(ascii: ":") {
      isMalformed = hasRegular || !addPseudo(name, value)
      return
    }
    hasRegular = true
    isMalformed = !addRegular(name, value)
  }

  private func addPseudo(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
    if name.equals(":path") {
      if pathText.isSet || value.isEmpty { return false }
      pathText.set(value)
      return true
    }
    if name.equals(":method") { return once(&hasMethod) { isPost = value.equals("POST") } }
    if name.equals(":scheme") { return once(&hasScheme) {} }
    // Of any form: clients of Unix sockets send their paths.
    if name.equals(":authority") { return once(&hasAuthority) {} }
    return false
  }

  private func addRegular(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
    switch name[0] {
    case UInt8(ascii: "c"):
      if name.equals("content-type") {
        return once(&hasContentType) { isGRPC = GRPCRequestHead.isGRPC(value) }
      }
      if name.equals("content-length") { return addLength(value) }
      return isName(name) && !name.equals("connection")
    case UInt8(ascii: "g"):
      if name.equals("grpc-timeout") {
        if timeoutText.isSet { return false }
        timeoutText.set(value)
        return true
      }
      if name.equals("grpc-encoding") {
        return once(&hasEncoding) { knownEncoding = GRPCRequestHead.encoding(value) }
      }
      return isName(name)
    case UInt8(ascii: "h"): return name.equals("host") ? once(&hasHost) {} : isName(name)
    case UInt8(ascii: "k"): return isName(name) && !name.equals("keep-alive")
    case UInt8(ascii: "p"): return isName(name) && !name.equals("proxy-connection")
    case UInt8(ascii: "t"):
      if name.equals("te") { return value.equals("trailers") }
      if name.equals("traceparent") { traceText.set(value) }
      return isName(name) && !name.equals("transfer-encoding")
    case UInt8(ascii: "u"):
      return name.equals("user-agent") || isName(name) && !name.equals("upgrade")
    default: return isName(name)
    }
  }

  private func addLength(_ value: UnsafeRawBufferPointer) -> Bool {
    guard contentLength == nil, !value.isEmpty, value.count <= 18 else { return false }
    var length: UInt64 = 0
    for byte in value {
      guard byte >= 0x30, byte <= 0x39 else { return false }
      length = length * 10 + UInt64(byte - 0x30)
    }
    contentLength = length
    return true
  }

  private func once(_ flag: inout Bool, _ body: () -> Void) -> Bool {
    if flag { return false }
    flag = true
    body()
    return true
  }

  // MARK: - What they come to

  /// The block is whole.
  public func verdict() -> Verdict {
    if byteCount > GRPCRequestHead.bytesMax {
      return .refused(
        .resourceExhausted,
        "the request's fields have over \(GRPCRequestHead.bytesMax) bytes, each counted with 32 "
          + "more than its name and value")
    }
    if isMalformed || !hasMethod || !hasScheme || !pathText.isSet { return .malformed }
    if !isPost { return .http(status: 405) }
    if !isGRPC { return .http(status: 415) }
    if timeoutText.isSet {
      guard !timeoutText.isCut, let parsed = GRPCTimeout.parse(timeoutText.bytes) else {
        return .refused(.internal, "malformed grpc-timeout")
      }
      timeout = parsed
      if parsed == 0 { return .refused(.deadlineExceeded, "the call's time is up") }
    } else {
      timeout = nil
    }
    if knownEncoding == nil {
      return .refused(
        .unimplemented, "grpc-encoding is not known here, expected identity, gzip or deflate")
    }
    return .call
  }

  private static func isGRPC(_ value: UnsafeRawBufferPointer) -> Bool {
    let base: StaticString = "application/grpc"
    guard value.hasPrefix(base) else { return false }
    if value.count == base.utf8CodeUnitCount { return true }
    let next = value[base.utf8CodeUnitCount]
    if next == UInt8(ascii: ";") { return true }
    // Messages are protobuf's, and no others.
    return value.hasPrefix("application/grpc+proto")
      && (value.count == 22 || value[22] == UInt8(ascii: ";"))
  }

  private static func encoding(_ value: UnsafeRawBufferPointer) -> Encoding? {
    if value.equals("identity") { return .identity }
    if value.equals("gzip") { return .gzip }
    return value.equals("deflate") ? .deflate : nil
  }

  /// The form of W3C's `traceparent`, version 00: two, 32, 16 and two lower-case hexadecimal digits
  /// with `-` between.
  public static func isTraceParent(_ value: UnsafeRawBufferPointer) -> Bool {
    guard value.count == 55 else { return false }
    for (index, byte) in value.enumerated() {
      if index == 2 || index == 35 || index == 52 {
        if byte != UInt8(ascii: "-") { return false }
      } else if !(byte >= 0x30 && byte <= 0x39 || byte >= 0x61 && byte <= 0x66) {
        return false
      }
    }
    return true
  }
}

/// Whether a value has none of the bytes that end a line or a text.
private func isField(_ value: UnsafeRawBufferPointer) -> Bool {
  for byte in value where byte < 0x20 && (byte == 0 || byte == 10 || byte == 13) { return false }
  return true
}

/// HTTP's tokens, without upper-case letters.
private func isName(_ name: UnsafeRawBufferPointer) -> Bool {
  for byte in name {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
      UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "!"),
      UInt8(ascii: "#")...UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"),
      UInt8(ascii: "^"), UInt8(ascii: "`"), UInt8(ascii: "|"), UInt8(ascii: "~"):
      continue
    default: return false
    }
  }
  return true
}
