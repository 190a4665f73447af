import LossdTensor
import Testing

@Suite struct ShownTextTests {
  @Test("a text of others is one line without control characters")
  func controls() {
    #expect(shownText("plain text, ä and 数") == "plain text, ä and 数")
    #expect(shownText("a\u{1b}[2Jb\nc\r\u{9b}d\u{202e}e\u{7f}\u{2028}f") == "a?[2Jb c ?d?e? f")
    #expect(shownText("a\u{1b}\nb", keepsLines: true) == "a?\nb")
  }

  @Test("a text that is too long is cut between two code points", arguments: 0...4)
  func cut(bytesMax: Int) {
    let expected = bytesMax < 2 ? "..." : bytesMax < 4 ? "ä..." : "ää"
    #expect(shownText("ää", bytesMax: bytesMax) == expected)
  }
}
