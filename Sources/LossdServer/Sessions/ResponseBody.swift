import LossdTensor
import LossdWire

/// What a call has answered and its client's window has not let through yet: bytes, and big results
/// in the buffers that they were computed in. Confined to its loop's thread.
final class ResponseBody {
  private enum Piece {
    /// A stretch of `bytes`.
    case bytes(begin: Int, end: Int)
    case payload(PayloadBuffer, begin: Int, end: Int)
  }

  /// Messages are encoded into this buffer. Call `bytesAppended` afterwards.
  let bytes = OutputBuffer()
  private var pieces: [Piece] = []
  private var first = 0
  private var bytesEnd = 0
  /// Bytes that have not been moved on.
  private(set) var count = 0
  /// Bytes of `bytes`.
  var byteCount: Int { Unretained(bytes).with { $0.count } }
  /// Whether some of them are results' own buffers.
  private(set) var holdsPayloads = false

  /// Queues what has been encoded into `bytes` since the last call.
  func bytesAppended() {
    let end = byteCount
    guard end > bytesEnd else { return }
    count += end - bytesEnd
    if let last = pieces.last, pieces.count > first, case .bytes(let begin, let lastEnd) = last,
      lastEnd == bytesEnd
    {
      pieces[pieces.count - 1] = .bytes(begin: begin, end: end)
    } else {
      pieces.append(.bytes(begin: bytesEnd, end: end))
    }
    bytesEnd = end
  }

  /// Queues `length` bytes of results from `offset` on, as they lie in a payload.
  func append(_ results: ResultBytes, offset: Int, length: Int) {
    if length == 0 { return }
    if offset < results.count {
      if let buffer = results.buffer {
        append(buffer, offset, length)
      } else if let small = results.small {
        bytes.append(UnsafeRawBufferPointer(start: small + offset, count: length))
      }
      return
    }
    guard let request = results.request else { return }
    var end = results.count
    for piece in results.pieces {
      let begin = (end + 63) & ~63
      if offset == begin { return append(request, piece.offset, min(length, piece.count)) }
      end = begin + piece.count
    }
  }

  private func append(_ buffer: PayloadBuffer, _ offset: Int, _ length: Int) {
    if length <= ResultBytes.copiedBytesMax {
      return bytes.append(UnsafeRawBufferPointer(start: buffer.base + offset, count: length))
    }
    bytesAppended()
    pieces.append(.payload(buffer, begin: offset, end: offset + length))
    count += length
    holdsPayloads = true
  }

  /// Moves the first `byteCount` bytes, of `count` at most, on to a connection's output.
  func move(_ byteCount: Int, to output: OutputQueue) {
    var left = byteCount
    while left > 0, first < pieces.count {
      switch pieces[first] {
      case .bytes(let begin, let end):
        let part = min(left, end - begin)
        Unretained(bytes).with { bytes in
          output.append(UnsafeRawBufferPointer(rebasing: bytes.bytes[begin..<begin + part]))
        }
        left -= part
        pieces[first] = .bytes(begin: begin + part, end: end)
        if begin + part == end { first += 1 } else if begin > 64 << 10 { compact() }
      case .payload(let buffer, let begin, let end):
        let part = min(left, end - begin)
        output.append(buffer, offset: begin, count: part)
        left -= part
        pieces[first] = .payload(buffer, begin: begin + part, end: end)
        if begin + part == end {
          // Releases the buffer as early as possible.
          pieces[first] = .bytes(begin: 0, end: 0)
          first += 1
        }
      }
    }
    count -= byteCount - left
    if count == 0 { removeAll() } else if first > 64 { compact() }
  }

  /// Removes what has been moved on, so that a client that never takes everything does not make it
  /// grow for ever.
  private func compact() {
    pieces.removeFirst(first)
    first = 0
    var moved = bytesEnd
    for case .bytes(let begin, _) in pieces {
      moved = begin
      break
    }
    guard moved > 0 else { return }
    bytes.removeFirst(moved)
    bytesEnd -= moved
    for index in pieces.indices {
      if case .bytes(let begin, let end) = pieces[index] {
        pieces[index] = .bytes(begin: begin - moved, end: end - moved)
      }
    }
  }

  func removeAll() {
    // Nothing since the last time.
    if count == 0 && bytesEnd == 0 && pieces.isEmpty { return }
    pieces.removeAll(keepingCapacity: pieces.capacity <= 64)
    first = 0
    bytesEnd = 0
    count = 0
    holdsPayloads = false
    bytes.removeAll()
  }
}
