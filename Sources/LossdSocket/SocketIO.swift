import CLinux
import Glibc

// Hot paths, one system call each: unsafe pointers, no closure that escapes, no heap allocation.

/// Reads what is there into `first`, then `second`; `second` may be empty, `first` may not. Any
/// descriptors that a Unix socket's peer sends along are closed by the kernel: not for a server's
/// sockets.
public func receive(
  _ fd: Int32, _ first: UnsafeMutableRawBufferPointer,
  _ second: UnsafeMutableRawBufferPointer = .init(start: nil, count: 0)
) -> IOResult {
  precondition(first.count > 0)
  if second.isEmpty { return result(ofReading: fd) { recv($0, first.baseAddress, first.count, 0) } }
  var vectors = (
    iovec(iov_base: first.baseAddress, iov_len: first.count),
    iovec(iov_base: second.baseAddress, iov_len: second.count)
  )
  return withUnsafeMutableBytes(of: &vectors) { bytes in
    var message = msghdr()
    message.msg_iov = bytes.assumingMemoryBound(to: iovec.self).baseAddress
    message.msg_iovlen = 2
    return result(ofReading: fd) { recvmsg($0, &message, 0) }
  }
}

/// As `receive(_:_:_:)`, for Unix sockets whose peer may send descriptors (SCM_RIGHTS): those that
/// came along are `refused`'s to close, elsewhere, since a peer's descriptor may take for ever to
/// be closed. The kernel closes none here.
public func receive(
  _ fd: Int32, _ first: UnsafeMutableRawBufferPointer,
  _ second: UnsafeMutableRawBufferPointer = .init(start: nil, count: 0),
  refused: (UnsafeBufferPointer<Int32>) -> Void
) -> IOResult {
  precondition(first.count > 0)
  var vectors = (
    iovec(iov_base: first.baseAddress, iov_len: first.count),
    iovec(iov_base: second.baseAddress, iov_len: second.count)
  )
  return withUnsafeMutableBytes(of: &vectors) { bytes in
    withUnsafeTemporaryAllocation(of: Int32.self, capacity: Int(CLINUX_DESCRIPTORS_MAX)) {
      var descriptors = 0
      let count = clinux_receive(
        fd, bytes.assumingMemoryBound(to: iovec.self).baseAddress, second.isEmpty ? 1 : 2,
        $0.baseAddress, &descriptors)
      let failure = errno
      if descriptors > 0 { refused(UnsafeBufferPointer(rebasing: $0[..<descriptors])) }
      if count > 0 { return .bytes(count) }
      if count == 0 { return .endOfFile }
      return failure == EAGAIN ? .wouldBlock : .failed(failure)
    }
  }
}

/// As `receive(_:_:_:)`, for a client whose server may send a descriptor along (SCM_RIGHTS). Sets
/// `descriptor` to the one that came, close-on-exec and the caller's to close, else to nil;
/// `isLost`: one came that this process has no room for.
public func receive(
  _ fd: Int32, _ first: UnsafeMutableRawBufferPointer, _ second: UnsafeMutableRawBufferPointer,
  descriptor: inout Int32?, isLost: inout Bool
) -> IOResult {
  precondition(first.count > 0)
  var vectors = (
    iovec(iov_base: first.baseAddress, iov_len: first.count),
    iovec(iov_base: second.baseAddress, iov_len: second.count)
  )
  var (number, lost): (Int32, Int32) = (-1, 0)
  let count = withUnsafeMutableBytes(of: &vectors) { bytes in
    clinux_receive_one(
      fd, bytes.assumingMemoryBound(to: iovec.self).baseAddress, second.isEmpty ? 1 : 2, &number,
      &lost)
  }
  let failure = errno
  descriptor = number >= 0 ? number : nil
  isLost = lost != 0
  if count > 0 { return .bytes(count) }
  if count == 0 { return .endOfFile }
  return failure == EAGAIN ? .wouldBlock : .failed(failure)
}

/// Maps memory that a server has made and sent, at least `bytes` long; nil where it is not that
/// long, can become shorter, or cannot be mapped. `munmap` unmaps it; the descriptor stays the
/// caller's to close.
public func mapSealed(_ fd: Int32, _ bytes: Int) -> UnsafeMutableRawPointer? {
  clinux_map_sealed(fd, bytes)
}

/// Writes as much of `vectors`, in order, as the socket takes now; at least one byte must be given.
/// Never raises SIGPIPE: a peer that is gone is `.failed(EPIPE)`.
public func send(_ fd: Int32, _ vectors: UnsafeBufferPointer<iovec>) -> IOResult {
  var message = msghdr()
  message.msg_iov = UnsafeMutablePointer(mutating: vectors.baseAddress)
  // IOV_MAX: the kernel refuses more; the rest goes with the next call.
  message.msg_iovlen = min(vectors.count, 1024)
  return result(ofWriting: fd, &message)
}

/// As `send(_:_:)`, with one descriptor attached to the first byte. If any byte was taken, so was
/// the descriptor.
public func send(
  _ fd: Int32, _ vectors: UnsafeBufferPointer<iovec>, passing passed: Int32
) -> IOResult {
  var control = ControlBuffer()
  return withUnsafeMutableBytes(of: &control) { control in
    control.storeBytes(of: ControlHeader.size + 4, as: Int.self)
    control.storeBytes(of: SOL_SOCKET, toByteOffset: ControlHeader.levelOffset, as: Int32.self)
    control.storeBytes(
      of: Int32(SCM_RIGHTS), toByteOffset: ControlHeader.typeOffset, as: Int32.self)
    control.storeBytes(of: passed, toByteOffset: ControlHeader.size, as: Int32.self)
    var message = msghdr()
    message.msg_iov = UnsafeMutablePointer(mutating: vectors.baseAddress)
    message.msg_iovlen = min(vectors.count, 1024)
    message.msg_control = control.baseAddress
    message.msg_controllen = ControlHeader.size + 8  // CMSG_SPACE(4)
    return result(ofWriting: fd, &message)
  }
}

/// Ends the writing side; the peer reads end of file once it has read what was sent.
public func shutdownWriting(_ fd: Int32) { _ = shutdown(fd, Int32(SHUT_WR)) }

/// Ends both sides: wakes whoever is blocked in a read or write on `fd`.
public func shutdownBoth(_ fd: Int32) { _ = shutdown(fd, Int32(SHUT_RDWR)) }

@inline(__always)
private func result(ofReading fd: Int32, _ call: (Int32) -> Int) -> IOResult {
  while true {
    let count = call(fd)
    if count > 0 { return .bytes(count) }
    if count == 0 { return .endOfFile }
    let failure = errno
    if failure == EINTR { continue }
    return failure == EAGAIN ? .wouldBlock : .failed(failure)
  }
}

private func result(ofWriting fd: Int32, _ message: inout msghdr) -> IOResult {
  while true {
    let count = sendmsg(fd, &message, Int32(MSG_NOSIGNAL))
    if count >= 0 { return .bytes(count) }
    let failure = errno
    if failure == EINTR { continue }
    return failure == EAGAIN ? .wouldBlock : .failed(failure)
  }
}

/// cmsg(3)'s layout on 64-bit Linux, whose macros Swift does not see: a length (size_t, header
/// included), a level and a type (int each), then the data; the next header at a multiple of 8.
private enum ControlHeader {
  static let levelOffset = 8
  static let typeOffset = 12
  static let size = 16
}

/// CMSG_SPACE of one descriptor, aligned as cmsghdr is.
private struct ControlBuffer {
  var words: (UInt64, UInt64, UInt64) = (0, 0, 0)
}
