//! The texts of the start of a login: login links, and the question for which user it is to be.

use super::catalogue::catalogue;

catalogue! {
    title_dead_link()
        en "This login link does not work any more"
        de "Dieser Anmeldelink funktioniert nicht mehr"
        fr "Ce lien de connexion ne fonctionne plus"
        es "Este enlace de acceso ya no funciona"
        pt "Este link de acesso não funciona mais"

    dead_link()
        en "A login link works once and for a limited time. This one was used already, is too old, or was not copied \
            whole."
        de "Ein Anmeldelink funktioniert einmal und nur für begrenzte Zeit. Dieser wurde bereits verwendet, ist zu alt \
            oder wurde nicht vollständig kopiert."
        fr "Un lien de connexion fonctionne une seule fois et pendant une durée limitée. Celui-ci a déjà été utilisé, \
            est trop ancien ou n’a pas été copié en entier."
        es "Un enlace de acceso funciona una sola vez y durante un tiempo limitado. Este ya se utilizó, es demasiado \
            antiguo o no se copió completo."
        pt "Um link de acesso funciona uma única vez e por tempo limitado. Este já foi usado, é antigo demais ou não \
            foi copiado por inteiro."

    title_open_the_link_again()
        en "Please open the login link again"
        de "Bitte öffnen Sie den Anmeldelink erneut"
        fr "Veuillez rouvrir le lien de connexion"
        es "Vuelva a abrir el enlace de acceso"
        pt "Abra o link de acesso novamente"

    question_too_old()
        en "This question was asked more than ten minutes ago, or in another browser. Nothing was changed."
        de "Diese Frage wurde vor mehr als zehn Minuten oder in einem anderen Browser gestellt. Es wurde nichts \
            geändert."
        fr "Cette question a été posée il y a plus de dix minutes ou dans un autre navigateur. Rien n’a été modifié."
        es "Esta pregunta se hizo hace más de diez minutos o en otro navegador. No se ha cambiado nada."
        pt "Esta pergunta foi feita há mais de dez minutos ou em outro navegador. Nada foi alterado."

    title_other_user()
        en "Link Pages for another user?"
        de "Seiten für einen anderen Benutzer verknüpfen?"
        fr "Associer des Pages pour un autre utilisateur\u{a0}?"
        es "¿Vincular páginas para otro usuario?"
        pt "Vincular Páginas para outro usuário?"

    link_is_for(user, at)
        en "This login link is for {user}{at}."
        de "Dieser Anmeldelink ist für {user}{at}."
        fr "Ce lien de connexion est destiné à {user}{at}."
        es "Este enlace de acceso es para {user}{at}."
        pt "Este link de acesso é para {user}{at}."

    browser_is_logged_in_as(user)
        en "This browser is logged in as {user}."
        de "In diesem Browser ist {user} angemeldet."
        fr "La session ouverte dans ce navigateur est pour {user}."
        es "La sesión abierta en este navegador es para {user}."
        pt "A sessão aberta neste navegador é para {user}."

    last_linked_for(user)
        en "Pages were last linked here for {user}."
        de "Zuletzt wurden hier Seiten für {user} verknüpft."
        fr "Les dernières Pages associées ici l’ont été pour {user}."
        es "Las últimas páginas que se vincularon aquí fueron para {user}."
        pt "As últimas Páginas vinculadas aqui foram para {user}."

    go_on_only_if()
        en "Go on only if you asked for this link yourself. If somebody else sent it to you, your Facebook Pages would \
            be linked to their account."
        de "Fahren Sie nur fort, wenn Sie diesen Link selbst angefordert haben. Wenn jemand anderes ihn Ihnen geschickt \
            hat, würden Ihre Facebook-Seiten mit dessen Konto verknüpft."
        fr "Continuez seulement si vous avez vous-même demandé ce lien. Si quelqu’un d’autre vous l’a envoyé, vos Pages \
            Facebook seraient associées à son compte."
        es "Continúe solo si usted mismo pidió este enlace. Si se lo envió otra persona, sus páginas de Facebook se \
            vincularían a la cuenta de ella."
        pt "Continue somente se você mesmo pediu este link. Se outra pessoa o enviou, suas Páginas do Facebook seriam \
            vinculadas à conta dela."

    stay_with(user)
        en "Stay with {user}"
        de "Bei {user} bleiben"
        fr "Rester avec {user}"
        es "Seguir con {user}"
        pt "Ficar com {user}"

    go_on_for(user)
        en "Go on for {user}"
        de "Für {user} fortfahren"
        fr "Continuer pour {user}"
        es "Continuar para {user}"
        pt "Continuar como {user}"
}
