import Glibc
import LossdSocket

/// Whether a connection may administer the daemon.
enum Administration: Sendable {
  case allowed
  /// Its socket is for clients.
  case elsewhere
  /// Its socket is for administrators, and its peer is none.
  case refused(String)
}

/// Who may administer the daemon, of those who have connected to a socket for administrators.
public enum AdminPeers: String, Sendable {
  /// root and the daemon's own user, as the kernel says who has connected (SO_PEERCRED).
  case owner
  /// Whoever the socket's file lets connect.
  case socket

  /// What a user namespace shows of users that are not in it: anybody.
  private static let overflowUser: UInt32 = 65534

  /// Why whoever is at the other end may not; nil: it may.
  func refusal(_ descriptor: Int32) -> String? {
    guard let peer = PeerCredentials(of: descriptor) else {
      return "administrators connect to a Unix socket"
    }
    return refusal(user: peer.userID, own: geteuid())
  }

  func refusal(user: UInt32, own: UInt32) -> String? {
    if self == .socket || user == 0 { return nil }
    if user == own && user != AdminPeers.overflowUser { return nil }
    return "user \(user) is neither root nor the daemon's own user (admin_peers)"
  }
}
