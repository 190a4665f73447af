import FuzzSupport
import LossdHTTP
import LossdTensor

/// A connection of HTTP/2 after its preface: nghttp2 behind LossdHTTP, the fields of requests, and
/// answers to some of them. An input is a byte of switches, one that says how many bytes of cuts
/// follow, the cuts, and what the client sends. In pieces it means the same as whole; what is made
/// are whole frames; memory stays within bounds.
@main struct HTTP2 {
  static func main() {
    fuzz { input in
      let switches = input.byte()
      let cuts = input.take(Int(input.byte() & 31))
      let stream = input.rest()
      let whole = Peer(switches).read(stream, cuts: UnsafeRawBufferPointer(start: nil, count: 0))
      let pieces = Peer(switches).read(stream, cuts: cuts)
      require(whole == pieces, "whole: \(whole)\nin pieces: \(pieces)")
    }
  }
}

/// What was told of each stream, without where its bytes were cut.
struct Told: Equatable {
  var verdicts: [Int32: String] = [:]
  var bytes: [Int32: [UInt8]] = [:]
  var ended: Set<Int32> = []
  var hasFailed = false
}

/// The owner of a connection.
final class Peer: HTTP2Sink {
  private let answers: Bool
  private let head = GRPCRequestHead()
  private var connection: HTTP2Connection?
  private var told = Told()
  private var bodies: [Int32: Body] = [:]

  final class Body {
    var left = 3000
  }

  init(_ switches: UInt8) {
    answers = switches & 1 == 0
    super.init()
    connection = HTTP2Connection(self)
  }

  func read(_ stream: UnsafeRawBufferPointer, cuts: UnsafeRawBufferPointer) -> Told {
    guard let connection else { return told }
    var rest = stream[...]
    var cut = 0
    while !rest.isEmpty && !told.hasFailed {
      let piece = rest.prefix(cut < cuts.count ? max(Int(cuts[cut]), 1) : rest.count)
      cut += 1
      rest = rest.dropFirst(piece.count)
      withCopy(UnsafeRawBufferPointer(rebasing: piece)) {
        if connection.receive($0) != nil { told.hasFailed = true }
      }
      // What is answered, and when, is the owner's affair: all of it at the end.
      require(connection.heldBytes <= (4 << 20) + 64 * stream.count, "\(connection.heldBytes) held")
    }
    var frames = 0
    while frames < 10_000 {
      let hasMade = connection.produce { bytes in
        require(bytes.count >= 9, "a frame of \(bytes.count) bytes")
        let length = Int(bytes[0]) << 16 | Int(bytes[1]) << 8 | Int(bytes[2])
        require(bytes.count == 9 + length || bytes[3] == 4 || bytes[3] == 1, "no whole frame")
      }
      if !hasMade { break }
      frames += 1
    }
    return told
  }

  // MARK: - HTTP2Sink

  override func headersBegan(_ stream: Int32) { head.begin() }
  override func header(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    head.add(name, value)
  }

  override func headersArrived(_ stream: Int32, isLast: Bool) {
    let verdict = head.verdict()
    told.verdicts[stream] = "\(verdict)"
    if isLast { told.ended.insert(stream) }
    require(head.path.count <= 1024, "a path of \(head.path.count) bytes")
    guard answers, verdict == .call, let connection else { return }
    let body = Body()
    bodies[stream] = body
    let context = Unmanaged.passUnretained(body).toOpaque()
    connection.setContext(stream, context)
    withUnsafePointer(to: HTTP2Field(":status", "200")) {
      _ = connection.answer(stream, UnsafeBufferPointer(start: $0, count: 1), body: context)
    }
  }

  override func trailersArrived(_ stream: Int32, isLast: Bool) {
    if isLast { told.ended.insert(stream) }
  }

  override func dataArrived(
    _ stream: Int32, _ context: UnsafeMutableRawPointer?, _ bytes: UnsafeRawBufferPointer
  ) {
    told.bytes[stream, default: []] += bytes
    connection?.consumed(stream, bytes.count)
  }

  override func dataEnded(_ stream: Int32, _ context: UnsafeMutableRawPointer?) {
    told.ended.insert(stream)
  }

  override func streamClosed(_ stream: Int32, _ context: UnsafeMutableRawPointer?, code: UInt32) {
    bodies[stream] = nil
  }

  override func controlArrived(_ kind: HTTP2Control) {}
  override func settingsArrived() {}
  override func pingAcknowledged() {}

  override func bodyNeeded(_ context: UnsafeMutableRawPointer, length: Int) -> (
    count: Int, isEnd: Bool
  ) {
    let body = Unmanaged<Body>.fromOpaque(context).takeUnretainedValue()
    let count = min(length, body.left)
    return (count, count == body.left)
  }

  override func bodyEnded(_ stream: Int32, _ context: UnsafeMutableRawPointer) {
    withUnsafePointer(to: HTTP2Field("grpc-status", "0")) {
      _ = connection?.trailers(stream, UnsafeBufferPointer(start: $0, count: 1))
    }
  }

  override func sendBody(
    _ context: UnsafeMutableRawPointer, header: UnsafeRawBufferPointer, count: Int
  ) -> Bool {
    let body = Unmanaged<Body>.fromOpaque(context).takeUnretainedValue()
    require(header.count == 9 && count <= body.left, "more than there is")
    body.left -= count
    return true
  }

  override func answeredEarly(_ stream: Int32) { connection?.reset(stream, .noError) }
}
