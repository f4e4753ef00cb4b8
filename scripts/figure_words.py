"""The words of the pictures about policies, in Chinese.

A picture is drawn in English and its text is then looked up here, the numbers apart: `#` stands for each, in the same order on both
sides. What may never happen here: a text that is left in English because nobody noticed; one that is missing is an error.
"""

from __future__ import annotations

import re
from html import unescape
from xml.sax.saxutils import escape, quoteattr

NUMBER = re.compile(r"\d[\d,.]*")
HAN = re.compile(r"[\u4e00-\u9fff]")
TEXT = re.compile(r"(<text[^>]*>)([^<]*)(</text>)")
NAME = re.compile(r'aria-label="([^"]*)"')

AS_IT_IS = ("#", "ms", "# ms", "# %, # ms", "p#c", "random", "round_robin", "least_loaded")
CODE = re.compile(r"[a-z_]+, executed: [a-z]+")

CHINESE = {
    # the stack: roles, and the reasons in `calling/stack.py`
    "The way of a call, outermost first": "一个调用走过的路，最外层在最前",
    "green: layers that an edit of the stack can reach": "绿色：可以改的层",
    "deadline": "截止时间",
    "throttle": "节流",
    "retry": "重试",
    "limit": "限制",
    "balance": "选节点",
    "breaker": "熔断",
    "attempt": "尝试",
    "connection": "连接",
    "outermost: all that follows, waiting and trying again too, has one deadline, which the session's timer keeps": (
        "最外层：后面的一切，等待和再试也算，只有一个截止时间，由会话的定时器来守"
    ),
    "outside of retry, so that a call that the servers cannot take costs them nothing, not even once": (
        "在重试外面：服务端接不了的调用，一次也不去费它"
    ),
    "above balance, so that each attempt may go to another node; retries and hedges draw on one budget": (
        "在选节点上面：每次尝试都可以去另一个节点；重试和对冲花同一份预算"
    ),
    "below retry, so that a call in its back-off holds no slot; above balance, for it is about us, not a node": (
        "在重试里面：退避中的调用不占名额；在选节点上面：它管的是我们，不是某个节点"
    ),
    "picks the node last, when all that waits has waited: what it knows of loads is of this very moment": (
        "该等的都等过了，最后才选：看到的负载就是这一刻的"
    ),
    "one per node, below balance: a node that fails keeps itself out, and the others are not blamed for it": (
        "每个节点一个，在选节点下面：坏的只把自己挡在外面，不连累别的"
    ),
    "measures where the node is known, so that each attempt is counted for the node that it went to": (
        "在知道是哪个节点的地方量：每次尝试都记在它去的那个节点上"
    ),
    "per node and shared by all calls: waits for room on it, up to the call's deadline": (
        "每个节点自己的，所有调用共用：没有空位就等，最多等到截止时间"
    ),
    # attempts
    "One deadline of # ms, up to three attempts beside one another": "一个 # ms 的截止时间，最多三次并排的尝试",
    "each bar is an attempt; green: the one that was answered": "每条横杠是一次尝试，绿色的得到了回答",
    "the node answers": "节点正常",
    "answered after # ms": "# ms 后得到回答",
    "the first node is silent": "第一个节点没有声音",
    "two nodes are silent": "两个节点没有声音",
    "silent, and not idempotent": "没有声音，又不幂等",
    "DeadlineExceeded: who can know whether it ran?": "DeadlineExceeded：执行了没有，谁知道呢？",
    # retries
    "What a server sees of # calls a second when all of them fail": "每秒 # 个调用全都失败时，服务端看到多少",
    "three attempts at most; the budget is a fifth of the calls and ten a second": "最多三次尝试；预算是调用的五分之一，加每秒十次",
    "seconds": "秒",
    "attempts a second": "每秒尝试",
    "all fail": "全都失败",
    "three attempts, no budget": "三次尝试，没有预算",
    "with the budget": "有预算",
    # hedging
    "How long calls take when # of # run into a pause of # to # ms": "有 # / # 的调用碰上 # 到 # ms 的停顿时，调用要多久",
    "# calls; # % of them were sent a second time": "# 个调用，其中 # % 发了第二次",
    "the slowest of so many calls": "这么多个调用里最慢的一个",
    "sent once": "只发一次",
    "hedged": "有对冲",
    # the breaker
    "The calls that go to a node which is dead for # seconds": "节点死了 # 秒，还有哪些调用发给它",
    "# calls a second; what the breaker keeps away goes to other nodes": "每秒 # 个调用；拦下的去别的节点",
    "calls in each second": "每一秒的调用",
    "dead": "死了",
    "answered": "有回答",
    "failed: # of #": "失败：# / #",
    "open or probing, opened # times": "跳开或试探，跳开 # 次",
    # the throttle
    "# calls a second, and servers that for three minutes take only # of them": "每秒 # 个调用，服务端有三分钟只接得了 # 个",
    "each point stands for five seconds": "每五秒一个点",
    "calls a second": "每秒调用",
    "too much for them": "接不了",
    "asked for": "想发的",
    "sent": "发出的",
    "accepted": "被接受的",
    # the limit
    "# quick calls a second beside a method that hangs from second # to #": "每秒 # 个快的调用，旁边一个方法从第 # 秒卡到第 # 秒",
    "# slots for the client; calls wait at most one second for one": "客户端有 # 个名额；最多等一秒",
    "quick calls in each second": "每一秒的快调用",
    "shop.report hangs": "shop.report 卡住",
    "one limit for all": "只有总的限制",
    "and # slots for shop.report": "shop.report 另有 # 个名额",
    # fallbacks
    "When a fallback stands in, and when the caller hears the error": "什么时候给替代值，什么时候把错误告诉调用方",
    "as decided by the machine": "由状态机来判断",
    "idempotent": "幂等",
    "runs once at most": "只能做一次",
    "no connection": "连不上",
    "fallback": "替代值",
    "error": "错误",
    "refused by a busy server": "服务端太忙，拒绝了",
    "too late before it was sent": "还没发出就过期了",
    "no answer before the deadline": "到截止时间没有回答",
    "the connection broke under it": "发出之后连接断了",
    "the server's own no": "服务端自己说不",
    "the caller's mistake": "调用方的错",
    # balancing
    "Calls that go to the one node of five that is # times as slow": "五个节点里有一个慢 # 倍，它拿到多少调用",
    "% of # calls, # a second, and the p# of all of them; # ms a call, # ms at the slow node": (
        "# 个调用的百分比，每秒 # 个；后面是全体的 p#；一个调用 # ms，慢节点 # ms"
    ),
    # ejection
    "One node of five begins to fail # % of its calls, at two calls a second": "五个节点里有一个开始坏 # % 的调用，每个节点每秒两个",
    "what it gets in each ten seconds": "它每十秒拿到的调用",
    "calls": "调用",
    "fails # %": "坏 # %",
    "failed": "失败",
    "ejected": "被排除",
    # strain
    "Four nodes at # % of what they can do, all of them slow for five seconds": "四个节点用到能力的 # %，一起慢了五秒",
    "# calls a second with a deadline of one; the servers work on for callers who have left": (
        "每秒 # 个调用，截止时间一秒；调用方走了，服务端还接着做"
    ),
    "% of the calls answered": "有回答的调用，%",
    "slow": "慢",
    "strain off": "策略关着",
    "strain on": "策略开着",
    # nodes
    "A source of # nodes that names # for a while, and later none": "来源有 # 个节点，有一阵只说 # 个，后来一个也不说",
    "it is asked every # seconds": "每 # 秒问它一次",
    "nodes": "节点",
    "what the source says": "来源说的",
    "what is in use": "用着的",
    # connections
    "# clients try to connect again after their server went away": "服务端走了，# 个客户端试着重连",
    "attempts in each quarter of a second": "每四分之一秒里的尝试",
    "seconds since it went away": "它走了多少秒",
    "attempts": "尝试",
    "each second: # in all": "每秒一起：共 # 次",
    "jittered back-off, # to # s: #": "带随机的退避，# 到 # s：# 次",
}


def chinese(text: str) -> str:
    """Return a text of a picture in Chinese. Raises: KeyError for one that nobody has translated."""
    numbers = NUMBER.findall(text)
    key = NUMBER.sub("#", text)
    if key in AS_IT_IS or CODE.fullmatch(text) or HAN.search(text):
        return text
    said = CHINESE[key]
    for number in numbers:
        said = said.replace("#", number, 1)
    return said


def in_chinese(svg: str) -> str:
    """Return a picture with its text in Chinese."""
    svg = NAME.sub(lambda found: f"aria-label={quoteattr(chinese(unescape(found[1])))}", svg, count=1)
    return TEXT.sub(lambda found: f"{found[1]}{escape(chinese(unescape(found[2])))}{found[3]}", svg)
