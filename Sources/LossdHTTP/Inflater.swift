import CZlib
import LossdTensor

/// Decompresses one message, of gzip or of zlib's deflate, in pieces. Confined to one thread at a
/// time.
public final class Inflater {
  private var stream = z_stream()
  /// The message's end has come.
  public private(set) var isDone = false

  /// RESOURCE_EXHAUSTED: zlib has no memory.
  public init(_ encoding: GRPCRequestHead.Encoding) throws(StatusError) {
    // 15: the largest window; 16 more: gzip's header and trailer, else zlib's.
    let bits: Int32 = encoding == .gzip ? 15 + 16 : 15
    guard inflateInit2_(&stream, bits, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { throw StatusError(.resourceExhausted, "no memory now to decompress a message") }
  }

  deinit { inflateEnd(&stream) }

  /// About what zlib takes for one stream.
  public static let heldBytes = 48 << 10

  /// Takes of `bytes` what fills `output` at most. INTERNAL where they are not what they should be.
  public func inflate(
    _ bytes: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer
  ) throws(StatusError) -> (used: Int, made: Int) {
    if isDone { throw StatusError(.internal, "bytes follow a compressed message") }
    stream.next_in = UnsafeMutablePointer(
      mutating: bytes.bindMemory(to: UInt8.self).baseAddress)
    stream.avail_in = UInt32(clamping: bytes.count)
    stream.next_out = output.bindMemory(to: UInt8.self).baseAddress
    stream.avail_out = UInt32(clamping: output.count)
    let (before, room) = (stream.avail_in, stream.avail_out)
    let code = CZlib.inflate(&stream, Z_NO_FLUSH)
    let result = (used: Int(before - stream.avail_in), made: Int(room - stream.avail_out))
    switch code {
    case Z_STREAM_END: isDone = true
    case Z_OK, Z_BUF_ERROR: break
    default: throw StatusError(.internal, "a compressed message does not decompress")
    }
    return result
  }
}
