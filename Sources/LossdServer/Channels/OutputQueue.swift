import Glibc
import LossdSocket
import LossdTensor
import LossdWire

/// A message that is written by itself, whole or not at all: for one that a descriptor goes with.
/// Confined to its loop's thread.
class QueuedMessage {
  /// The bytes that it counts as queued output.
  static let byteCount = 64

  func write(_ socket: Int32) -> IOResult { preconditionFailure("a session's") }
}

/// The output of one connection that waits to be written: frames in one growing buffer, and big
/// payloads in the buffers that they were computed in. One gathered write sends many frames. A hot
/// path.
final class OutputQueue {
  private enum Entry {
    /// A stretch of `frames`.
    case frames(begin: Int, end: Int)
    case payload(PayloadBuffer, begin: Int, end: Int)
    case message(QueuedMessage)
  }

  private static let vectorsMax = 64

  /// Frames are encoded into this buffer. Call `framesAppended` afterwards.
  let frames = OutputBuffer()
  private var entries: [Entry] = []
  private var first = 0
  private var framesEnd = 0
  /// Bytes not yet written.
  private(set) var byteCount = 0

  var isEmpty: Bool { byteCount == 0 && framesEnd == frames.count }

  /// Queues what has been encoded into `frames` since the last call.
  func framesAppended() {
    let end = frames.count
    guard end > framesEnd else { return }
    byteCount += end - framesEnd
    if let last = entries.last, entries.count > first,
      case .frames(let begin, let lastEnd) = last, lastEnd == framesEnd
    {
      entries[entries.count - 1] = .frames(begin: begin, end: end)
    } else {
      entries.append(.frames(begin: framesEnd, end: end))
    }
    framesEnd = end
  }

  /// Queues a copy of a frame.
  func append(_ frame: UnsafeRawBufferPointer) {
    Unretained(frames).with { $0.append(frame) }
    framesAppended()
  }

  func append(_ message: QueuedMessage) {
    framesAppended()
    entries.append(.message(message))
    byteCount += QueuedMessage.byteCount
  }

  /// Queues results, and keeps their buffers until they are written.
  func append(_ results: ResultBytes) {
    if let buffer = results.buffer {
      append(buffer, offset: 0, count: results.count)
    } else if let small = results.small, results.count > 0 {
      frames.append(UnsafeRawBufferPointer(start: small, count: results.count))
      framesAppended()
    }
    guard let request = results.request else { return }
    var end = results.count
    for piece in results.pieces {
      appendZeros(-end & 63)
      append(request, offset: piece.offset, count: piece.count)
      end = ((end + 63) & ~63) + piece.count
    }
  }

  /// Queues a part of a buffer, and keeps the buffer until it is written.
  func append(_ payload: PayloadBuffer, offset: Int, count: Int) {
    if count == 0 { return }
    if count <= ResultBytes.copiedBytesMax {
      frames.append(UnsafeRawBufferPointer(start: payload.base + offset, count: count))
      framesAppended()
      return
    }
    framesAppended()
    entries.append(.payload(payload, begin: offset, end: offset + count))
    byteCount += count
  }

  private func appendZeros(_ count: Int) {
    if count == 0 { return }
    frames.extend(by: count).initializeMemory(as: UInt8.self, repeating: 0, count: count)
    framesAppended()
  }

  enum Outcome {
    case drained, blocked
    case failed(Int32)
  }

  /// Writes until the queue is empty or the socket takes no more. Adds the written bytes to
  /// `written`.
  func flush(_ descriptor: Int32, written: inout Int) -> Outcome {
    framesAppended()
    while byteCount > 0 {
      switch writeOnce(descriptor) {
      case .bytes(let count):
        written += count
        if case .message = entries[first] { messageWritten() } else { advance(count) }
      case .wouldBlock:
        compact()
        return .blocked
      case .endOfFile: return .failed(EPIPE)
      case .failed(let number): return .failed(number)
      }
    }
    reset()
    return .drained
  }

  private func writeOnce(_ descriptor: Int32) -> IOResult {
    if case .message(let message) = entries[first] { return message.write(descriptor) }
    return withUnsafeTemporaryAllocation(of: iovec.self, capacity: OutputQueue.vectorsMax) {
      vectors in
      var count = 0
      var index = first
      while index < entries.count && count < vectors.count {
        if case .message = entries[index] { break }
        let (base, begin, end) = place(entries[index])
        vectors[count] = iovec(iov_base: base + begin, iov_len: end - begin)
        count += 1
        index += 1
      }
      return send(descriptor, UnsafeBufferPointer(start: vectors.baseAddress, count: count))
    }
  }

  private func place(_ entry: Entry) -> (UnsafeMutableRawPointer, Int, Int) {
    switch entry {
    case .frames(let begin, let end):
      // iovec wants a mutable pointer; sendmsg only reads.
      (UnsafeMutableRawPointer(mutating: frames.bytes.baseAddress.unsafelyUnwrapped), begin, end)
    case .payload(let payload, let begin, let end): (payload.base, begin, end)
    case .message: preconditionFailure("it is written by itself")
    }
  }

  private func messageWritten() {
    byteCount -= QueuedMessage.byteCount
    entries[first] = .frames(begin: 0, end: 0)
    first += 1
  }

  private func advance(_ count: Int) {
    byteCount -= count
    var left = count
    while left > 0 {
      let (_, begin, end) = place(entries[first])
      let part = min(left, end - begin)
      left -= part
      if begin + part == end {
        // Releases the payload's buffer as early as possible.
        entries[first] = .frames(begin: 0, end: 0)
        first += 1
        continue
      }
      switch entries[first] {
      case .frames: entries[first] = .frames(begin: begin + part, end: end)
      case .payload(let payload, _, _):
        entries[first] = .payload(payload, begin: begin + part, end: end)
      case .message: preconditionFailure("it is written by itself")
      }
    }
  }

  /// Removes written bytes from the buffer, so that a reader that never takes everything does not
  /// make it grow for ever.
  private func compact() {
    if first > 0 {
      entries.removeFirst(first)
      first = 0
    }
    var sent = framesEnd
    for case .frames(let begin, _) in entries {
      sent = begin
      break
    }
    guard sent > 64 << 10, sent > framesEnd / 2 else { return }
    frames.removeFirst(sent)
    framesEnd -= sent
    for index in entries.indices {
      if case .frames(let begin, let end) = entries[index] {
        entries[index] = .frames(begin: begin - sent, end: end - sent)
      }
    }
  }

  private func reset() {
    entries.removeAll(keepingCapacity: entries.capacity <= 1024)
    first = 0
    framesEnd = 0
    frames.removeAll()
  }

  /// Drops everything.
  func removeAll() {
    reset()
    byteCount = 0
  }
}
