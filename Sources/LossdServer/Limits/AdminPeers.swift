import Glibc
import LossdSocket

/// Whether a connection may administer the daemon.
enum Administration: Sendable {
  case allowed
  /// The connection's socket is for clients.
  case elsewhere
  /// The socket is for administrators, and the peer is not one.
  case refused(String)
}

/// Which peers of a socket for administrators may administer the daemon.
public enum AdminPeers: String, Sendable {
  /// root and the daemon's own user. The kernel says who has connected (SO_PEERCRED).
  case owner
  /// Everybody whom the socket's file lets connect.
  case socket

  /// The uid that a user namespace shows for every user outside of it.
  private static let overflowUser: UInt32 = 65534

  /// Why the peer may not administer the daemon; nil: the peer may.
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
