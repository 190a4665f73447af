import FuzzSupport
import LossdTensor
import LossdWire

/// The frame decoder, both roles. An input is a byte of switches, a length, so many bytes that say
/// where the stream is cut, and the stream. The decoder has to say the same of the stream in pieces
/// as of the stream whole.
@main struct Frames {
  static func main() {
    fuzz { input in
      let setup = Setup(switches: input.byte())
      let cuts = input.take(Int(input.byte() & 31))
      let stream = input.rest()
      let whole = Reading(setup).read(stream, cuts: UnsafeRawBufferPointer(start: nil, count: 0))
      let pieces = Reading(setup).read(stream, cuts: cuts)
      require(whole == pieces, "whole: \(whole)\nin pieces: \(pieces)")
    }
  }
}

/// How the connection that reads is made, and what its owner does.
struct Setup {
  var role: FrameDecoder.Role
  var maxMessageBytes: UInt32
  var sharedMemory: Bool
  /// Payloads have to wait for their memory now and then.
  var waits: Bool
  /// Parts of payloads are read right into their place.
  var direct: Bool
  /// Messages over this are dropped, bytes.
  var messageMax: UInt32
  var dropsPayloads: Bool

  init(switches: UInt8) {
    role = switches & 1 == 0 ? .server : .client
    maxMessageBytes = switches & 2 == 0 ? 4 << 20 : 64
    sharedMemory = switches & 4 == 0
    waits = switches & 8 != 0
    direct = switches & 16 != 0
    messageMax = switches & 32 == 0 ? 4 << 20 : 100
    dropsPayloads = switches & 64 != 0
  }
}

/// What has been said so far: enough to tell two readings apart, small enough for any stream.
struct Heard: Equatable, CustomStringConvertible {
  var events = 0
  var digest: UInt64 = 14_695_981_039_346_656_037
  var failure: String?
  var isMidFrame = false
  var header: FrameHeader?
  var description: String {
    "\(events) events, digest \(digest), \(failure ?? "no failure"), mid-frame \(isMidFrame), "
      + "\(header.debugDescription)"
  }

  /// FNV-1a.
  mutating func add(_ bytes: UnsafeRawBufferPointer) {
    for byte in bytes { digest = (digest ^ UInt64(byte)) &* 1_099_511_628_211 }
  }

  mutating func add(_ kind: UInt8, _ header: FrameHeader) {
    events += 1
    var bytes = [kind] + [UInt8](repeating: 0, count: FrameHeader.byteCount)
    bytes.withUnsafeMutableBytes { header.encode(into: $0.baseAddress! + 1) }
    bytes.withUnsafeBytes { add($0) }
  }
}

/// A decoder and its owner.
final class Reading: FrameSink {
  private static let payloadMax = 1 << 16
  private let setup: Setup
  private let decoder: FrameDecoder
  private var heard = Heard()
  private var payload: UnsafeMutableRawPointer?
  private var refusals = 0
  /// Frames whose end is still to be told.
  private var isOpen = false

  init(_ setup: Setup) {
    self.setup = setup
    decoder = FrameDecoder(
      role: setup.role, maxMessageBytes: setup.maxMessageBytes, sharedMemory: setup.sharedMemory)
  }

  deinit { payload?.deallocate() }

  func read(_ stream: UnsafeRawBufferPointer, cuts: UnsafeRawBufferPointer) -> Heard {
    var rest = stream[...]
    var cut = 0
    while !rest.isEmpty && heard.failure == nil {
      let size = cut < cuts.count ? Int(cuts[cut]) : rest.count
      cut += 1
      let piece = rest.prefix(size)
      rest = rest.dropFirst(piece.count)
      withCopy(UnsafeRawBufferPointer(rebasing: piece), feed)
    }
    heard.isMidFrame = decoder.isMidFrame
    heard.header = decoder.currentHeader
    require(decoder.heldCapacity <= 4 * stream.count + (64 << 10), "holds \(decoder.heldCapacity)")
    return heard
  }

  private func feed(_ piece: UnsafeRawBufferPointer) {
    var rest = piece[...]
    while heard.failure == nil {
      if setup.direct, let place = decoder.directDestination(minimum: 3) {
        let part = rest.prefix(place.count)
        if part.isEmpty { return }
        place.copyMemory(from: UnsafeRawBufferPointer(rebasing: part))
        rest = rest.dropFirst(part.count)
        do throws(BadFrame) { try decoder.directBytesArrived(part.count, self) } catch {
          fail(error)
        }
        continue
      }
      do throws(BadFrame) {
        let used = try decoder.decode(UnsafeRawBufferPointer(rebasing: rest), self)
        require(used >= 0 && used <= rest.count, "used \(used) of \(rest.count) bytes")
        rest = rest.dropFirst(used)
        if !decoder.isWaiting {
          require(rest.isEmpty, "\(rest.count) bytes are left, and it does not wait")
          return
        }
      } catch { fail(error) }
    }
  }

  private func fail(_ error: BadFrame) {
    heard.failure = error.reason
    require(error.code != .ok, "a bad frame of code OK")
    require(error.reason.utf8.count < 1000, "a reason of \(error.reason.utf8.count) bytes")
  }

  // MARK: - FrameSink

  func frameBegan(_ header: FrameHeader) throws(BadFrame) -> MessageDisposition {
    require(!isOpen, "a frame begins within another")
    heard.add(1, header)
    if header.messageLength > setup.messageMax && (header.type == .message || header.type == .open)
    {
      return .drop
    }
    isOpen = true
    return .receive
  }

  func messageArrived(_ header: FrameHeader, _ message: UnsafeRawBufferPointer) throws(BadFrame) {
    require(message.count == Int(header.messageLength), "a message of \(message.count) bytes")
    heard.add(2, header)
    heard.add(message)
  }

  func payloadDestination(_ header: FrameHeader) -> PayloadDisposition {
    require(header.payloadLength > 0, "a place for no bytes")
    if setup.waits && refusals < 2 {
      refusals += 1
      return .wait
    }
    refusals = 0
    if setup.dropsPayloads || header.payloadLength > Reading.payloadMax {
      isOpen = false
      return .drop
    }
    let place = UnsafeMutableRawPointer.allocate(
      byteCount: Int(header.payloadLength), alignment: 64)
    payload = place
    return .receive(place)
  }

  func frameEnded(_ header: FrameHeader) throws(BadFrame) {
    isOpen = false
    heard.add(3, header)
    guard let payload else { return }
    heard.add(UnsafeRawBufferPointer(start: payload, count: Int(header.payloadLength)))
    payload.deallocate()
    self.payload = nil
  }
}
