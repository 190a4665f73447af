import Glibc
import Testing

@testable import LossdSocket

@Suite struct AddressTests {
  @Test(
    "an address reads back as it is written",
    arguments: [
      "unix:/run/lossd/lossd.sock", "unix:a", "tcp:localhost:1", "tcp:127.0.0.1:65535",
      "tcp:[::1]:5677", "tcp:[fe80::1%eth0]:0",
    ])
  func texts(text: String) throws {
    #expect("\(try Address(parsing: text))" == text)
  }

  @Test("a host without a port has the default one, and a long port or path the most there can be")
  func defaults() throws {
    #expect(try Address(parsing: "tcp:host") == .tcp(host: "host", port: 5677))
    #expect(try Address(parsing: "tcp:[::1]") == .tcp(host: "::1", port: 5677))
    #expect(try Address(parsing: "tcp:host:00080") == .tcp(host: "host", port: 80))
    let path = String(repeating: "p", count: 107)
    #expect(try Address(parsing: "unix:" + path) == .unix(path: path))
  }

  @Test(
    "what is no address is an error that says why",
    arguments: [
      ("", "expected unix:PATH or tcp:HOST:PORT"), ("/run/sock", "expected unix:PATH"),
      ("UNIX:/a", "expected unix:PATH"), ("unix:", "path is empty"),
      ("unix:" + String(repeating: "p", count: 108), "at most 107"),
      ("unix:" + String(repeating: "\u{E9}", count: 54), "108 bytes"), ("unix:a\0b", "zero byte"),
      ("tcp:", "host is missing"), ("tcp::80", "host is missing"), ("tcp:[]:80", "host is missing"),
      ("tcp:h\0:80", "a bracket or a zero byte"), ("tcp:[[]", "a bracket or a zero byte"),
      ("tcp:a]:80", "a bracket or a zero byte"), ("tcp:[::1", "[ without ]"),
      ("tcp:::1:80", "in brackets"), ("tcp:h:65536", "a port from 0 to 65535"),
      ("tcp:h:-1", "a port from 0 to 65535"), ("tcp:h:+1", "a port from 0 to 65535"),
      ("tcp:h:", "a port from 0 to 65535"), ("tcp:h:1 ", "a port from 0 to 65535"),
      ("tcp:[::1]80", "a port from 0 to 65535"), ("tcp:h:\u{661}", "a port from 0 to 65535"),
    ])
  func wrong(text: String, reason: String) {
    #expect {
      try Address(parsing: text)
    } throws: { error in
      (error as? AddressError)?.text.contains(reason) == true
    }
  }
}

/// A folder that is removed at the end.
final class Folder {
  let path: String

  init() throws {
    var template = Array("/tmp/lossd-socket-XXXXXX".utf8CString)
    path = try #require(mkdtemp(&template).map { String(cString: $0) })
  }

  func file(_ name: String) -> String { "\(path)/\(name)" }
  func has(_ name: String) -> Bool { access(file(name), F_OK) == 0 }

  deinit {
    for name in ["s", "other", "plain"] { unlink(file(name)) }
    rmdir(path)
  }
}

@Suite struct ListeningTests {
  @Test("a Unix socket is accepted on, has the mode asked for, and takes its file along")
  func unix() throws {
    let folder = try Folder()
    let address = Address.unix(path: folder.file("s"))
    let socket = try ListeningSocket(binding: address, mode: 0o640)
    var status = stat()
    #expect(stat(folder.file("s"), &status) == 0 && status.st_mode & 0o777 == 0o640)
    guard case .wouldBlock = socket.accept() else {
      Issue.record("somebody was there")
      return
    }
    let client = try Descriptor.connect(to: address)
    guard case .accepted(let server) = socket.accept() else {
      Issue.record("nobody was there")
      return
    }
    let peer = try #require(PeerCredentials(of: server.raw))
    #expect(peer.processID == getpid() && peer.userID == geteuid() && peer.groupID == getegid())
    #expect(fcntl(server.raw, F_GETFL) & O_NONBLOCK != 0)
    #expect(fcntl(server.raw, F_GETFD) & FD_CLOEXEC != 0)
    #expect(localAddress(server.raw) == address)
    #expect(peerNetwork(server.raw) == nil)
    socket.close()
    socket.close()
    #expect(!folder.has("s"))
    _ = client.raw
  }

  @Test("a live socket is left alone, a dead one is replaced, and what is no socket is not touched")
  func room() throws {
    let folder = try Folder()
    let address = Address.unix(path: folder.file("s"))
    var first: ListeningSocket? = try ListeningSocket(binding: address)
    #expect {
      try ListeningSocket(binding: address)
    } throws: { "\($0)".contains("another daemon answers on \(folder.file("s"))") }
    // Dead: its file stays, and nobody listens.
    #expect(rename(folder.file("s"), folder.file("other")) == 0)
    first = nil
    #expect(folder.has("other"))
    #expect(rename(folder.file("other"), folder.file("s")) == 0)
    let second = try ListeningSocket(binding: address)
    second.close()
    close(open(folder.file("plain"), O_CREAT | O_WRONLY, 0o600))
    #expect {
      try ListeningSocket(binding: .unix(path: folder.file("plain")))
    } throws: { "\($0)".contains("exists and is not a socket; not touched") }
    #expect(folder.has("plain"))
    _ = first
  }

  @Test("a socket whose file another has replaced leaves the other's file")
  func replaced() throws {
    let folder = try Folder()
    let address = Address.unix(path: folder.file("s"))
    let first = try ListeningSocket(binding: address)
    unlink(folder.file("s"))
    let second = try ListeningSocket(binding: address)
    first.close()
    #expect(folder.has("s"))
    second.close()
    #expect(!folder.has("s"))
  }

  @Test(
    "a TCP socket tells the port that the kernel chose, and a host of this machine is one network")
  func tcp() throws {
    let socket = try ListeningSocket(binding: .tcp(host: "127.0.0.1", port: 0))
    guard case .tcp(let host, let port) = socket.address else {
      Issue.record("it is no TCP socket")
      return
    }
    #expect(host == "127.0.0.1" && port > 0)
    let client = try Descriptor.connect(to: socket.address)
    var poll = pollfd(fd: socket.fd, events: Int16(POLLIN), revents: 0)
    #expect(Glibc.poll(&poll, 1, 5000) == 1)
    guard case .accepted(let server) = socket.accept() else {
      Issue.record("nobody was there")
      return
    }
    #expect(peerNetwork(server.raw) == "127.0.0.0/8")
    #expect(PeerCredentials(of: server.raw) == nil)
    #expect(peerAddress(client.raw) == socket.address)
  }

  @Test("what was passed on and does not listen is refused")
  func adopted() throws {
    let pair = try Descriptor.pair().take()
    defer { close(pair.second) }
    #expect {
      try ListeningSocket(adopting: Descriptor(adopting: pair.first))
    } throws: { "\($0)".contains("it is not a listening stream socket") }
  }
}

@Suite struct SocketIOTests {
  @Test("what is read fills the first part, then the second, and the end is told")
  func parts() throws {
    let (ours, theirs) = try Descriptor.pair(nonBlocking: true).take()
    defer { close(ours) }
    var bytes: [UInt8] = [1, 2, 3, 4, 5]
    bytes.withUnsafeMutableBytes { bytes in
      var vectors = [
        iovec(iov_base: bytes.baseAddress, iov_len: 2),
        iovec(iov_base: bytes.baseAddress! + 2, iov_len: 3),
      ]
      let outcome = vectors.withUnsafeMutableBufferPointer { send(theirs, .init($0)) }
      #expect(outcome == .bytes(5))
    }
    var (first, second): ([UInt8], [UInt8]) = ([0, 0, 0], [0, 0, 0, 0])
    func read(_ hasSecond: Bool) -> IOResult {
      first.withUnsafeMutableBytes { first in
        second.withUnsafeMutableBytes { second in
          hasSecond ? receive(ours, first, second) : receive(ours, first)
        }
      }
    }
    #expect(read(true) == .bytes(5))
    #expect(first == [1, 2, 3] && second == [4, 5, 0, 0])
    #expect(read(false) == .wouldBlock)
    shutdownWriting(theirs)
    #expect(read(true) == .endOfFile)
    close(theirs)
    bytes.withUnsafeMutableBytes { bytes in
      var vector = iovec(iov_base: bytes.baseAddress, iov_len: 5)
      let outcome = withUnsafePointer(to: &vector) {
        send(ours, UnsafeBufferPointer(start: $0, count: 1))
      }
      #expect(outcome == .failed(EPIPE))
    }
  }

  @Test("descriptors that come along are the caller's to refuse, and none stays open unseen")
  func descriptors() throws {
    let (ours, theirs) = try Descriptor.pair(nonBlocking: true).take()
    defer {
      close(ours)
      close(theirs)
    }
    var byte: UInt8 = 9
    let outcome = withUnsafeMutablePointer(to: &byte) { byte in
      var vector = iovec(iov_base: byte, iov_len: 1)
      return withUnsafePointer(to: &vector) {
        send(theirs, UnsafeBufferPointer(start: $0, count: 1), passing: 0)
      }
    }
    #expect(outcome == .bytes(1))
    var buffer: [UInt8] = [0, 0]
    var refused: [Int32] = []
    let found = buffer.withUnsafeMutableBytes { bytes in
      receive(ours, bytes) { refused += $0 }
    }
    #expect(found == .bytes(1) && buffer == [9, 0])
    #expect(refused.count == 1)
    for descriptor in refused { #expect(close(descriptor) == 0) }
  }

  @Test("a closer closes all that it is given, and says when it has no more room for somebody")
  func closer() throws {
    let closer = DescriptorCloser()
    var theirs: [Int32] = []
    for _ in 0..<100 {
      let pair = try Descriptor.pair().take()
      closer.close(pair.first, of: 1)
      theirs.append(pair.second)
    }
    for descriptor in theirs {
      var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      #expect(Glibc.poll(&poll, 1, 5000) == 1)
      var byte: UInt8 = 0
      #expect(read(descriptor, &byte, 1) == 0)
      close(descriptor)
    }
    #expect(closer.hasRoom(for: 1) && closer.hasRoom(for: 2))
  }
}
