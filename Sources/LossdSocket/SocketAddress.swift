import Glibc

/// The kernel's form of an address: a `sockaddr_storage` and the part of it in use.
struct SocketAddress {
  var storage = sockaddr_storage()
  var length = socklen_t(MemoryLayout<sockaddr_storage>.size)

  init() {}

  /// A Unix socket's.
  init(path: String) throws(AddressError) {
    try Address.check(path: path)
    var name = sockaddr_un()
    name.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &name.sun_path) { destination in
      // check() made sure that a zero remains at the end.
      destination.copyBytes(from: path.utf8)
    }
    withUnsafeMutableBytes(of: &storage) { destination in
      withUnsafeBytes(of: &name) { destination.copyMemory(from: $0) }
    }
    length = socklen_t(MemoryLayout<sockaddr_un>.size)
  }

  init(copying address: UnsafePointer<sockaddr>, length: socklen_t) {
    let count = min(Int(length), MemoryLayout<sockaddr_storage>.size)
    withUnsafeMutableBytes(of: &storage) {
      $0.copyMemory(from: UnsafeRawBufferPointer(start: address, count: count))
    }
    self.length = socklen_t(count)
  }

  var family: Int32 { Int32(storage.ss_family) }

  func with<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
    withUnsafePointer(to: storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
    }
  }

  /// Lets a system call fill it in.
  static func filled(
    _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
  ) -> SocketAddress? {
    var address = SocketAddress()
    let result = withUnsafeMutablePointer(to: &address.storage) { storage in
      storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, &address.length) }
    }
    return result == 0 ? address : nil
  }

  /// As `Address` has it; a Unix socket without a name has an empty path.
  var address: Address? {
    if family == AF_UNIX {
      let pathOffset = MemoryLayout<sa_family_t>.size
      let count = max(Int(length) - pathOffset, 0)
      let path = withUnsafeBytes(of: storage) { bytes in
        bytes[pathOffset..<(pathOffset + min(count, bytes.count - pathOffset))].prefix { $0 != 0 }
          .map { $0 }
      }
      return .unix(path: String(decoding: path, as: UTF8.self))
    }
    var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    var service = [CChar](repeating: 0, count: Int(NI_MAXSERV))
    let result = with { address, length in
      getnameinfo(
        address, length, &host, socklen_t(host.count), &service, socklen_t(service.count),
        NI_NUMERICHOST | NI_NUMERICSERV)
    }
    guard result == 0, let port = UInt16(text(service)) else { return nil }
    return .tcp(host: text(host), port: port)
  }

  private func text(_ characters: [CChar]) -> String {
    String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// What a host's name and a port resolve to, in the resolver's order; may ask DNS and block.
  static func resolve(
    host: String, port: UInt16, passive: Bool, for operation: String
  ) throws(SocketError) -> [SocketAddress] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0)
    var list: UnsafeMutablePointer<addrinfo>?
    let result = getaddrinfo(host, String(port), &hints, &list)
    if result != 0 {
      throw SocketError(operation, text: String(cString: gai_strerror(result)))
    }
    defer { freeaddrinfo(list) }
    var found: [SocketAddress] = []
    var next = list
    while let entry = next?.pointee {
      if let address = entry.ai_addr {
        found.append(SocketAddress(copying: address, length: entry.ai_addrlen))
      }
      next = entry.ai_next
    }
    return found
  }
}

/// The address that `fd` is bound to.
public func localAddress(_ fd: Int32) -> Address? {
  SocketAddress.filled { getsockname(fd, $0, $1) }?.address
}

/// The address at the other end of `fd`.
public func peerAddress(_ fd: Int32) -> Address? {
  SocketAddress.filled { getpeername(fd, $0, $1) }?.address
}

/// The network that the host at the other end of `fd` stands for, as text: an IPv4 address (also
/// one that IPv6 carries), or the first 64 bits of an IPv6 address, which one host has to itself.
/// Nil for what is no internet socket.
public func peerNetwork(_ fd: Int32) -> String? {
  SocketAddress.filled { getpeername(fd, $0, $1) }?.network
}

extension SocketAddress {
  fileprivate var network: String? {
    withUnsafeBytes(of: storage) { bytes in
      // sockaddr_in: family, port, 4 bytes; sockaddr_in6: family, port, flow, 16 bytes.
      switch family {
      case AF_INET: return SocketAddress.host(bytes[4..<8])
      case AF_INET6:
        let address = bytes[8..<24]
        let mappedPrefix = Array(repeating: UInt8(0), count: 10) + [0xFF, 0xFF]
        if address.prefix(12).elementsEqual(mappedPrefix) {
          return SocketAddress.host(address.suffix(4))
        }
        let groups = stride(from: 8, to: 16, by: 2).map {
          String(UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]), radix: 16)
        }
        return groups.joined(separator: ":") + "::/64"
      default: return nil
      }
    }
  }

  /// This machine has all of 127.0.0.0/8 to itself.
  private static func host(_ bytes: Slice<UnsafeRawBufferPointer>) -> String {
    bytes.first == 127 ? "127.0.0.0/8" : bytes.map { "\($0)" }.joined(separator: ".")
  }
}
